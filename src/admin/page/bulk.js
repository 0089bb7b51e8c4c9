// What is done to many entries is done in pieces: each answer says where the next one goes on.

/** Says the same to the service about each selection to its end; `told` hears what it came to so far. */
export async function inPieces(change, path, selections, told) {
  const sum = { entries: 0, left: 0 };
  for (const selection of selections) {
    let after;
    do {
      const answer = await change(path, { ...selection, after });
      if (!answer) return;
      sum.entries += answer.entries;
      sum.left += answer.left;
      after = answer.next ?? undefined;
      told(sum);
    } while (after);
  }
}
