// A list of named checks that are all run, and a summary.

/** Runs checks one after the other; a failed one does not stop the others. */
export class Checks {
  #passed = 0;
  #failed = 0;

  async run(name, check) {
    try {
      await check();
      this.#passed += 1;
      console.log(`ok       ${name}`);
    } catch (error) {
      this.#failed += 1;
      const reason = error.message || error.name || error.code;
      console.log(`FAILED   ${name}: ${reason.split("\n", 1)[0]}`);
    }
  }

  /** Says aloud what was not looked at. */
  unverified(name, reason) {
    console.log(`not seen ${name}: ${reason}`);
  }

  /** Prints the summary; the exit code. */
  finish() {
    console.log(`${this.#passed} passed, ${this.#failed} failed`);
    return this.#failed === 0 ? 0 : 1;
  }
}

/** Repeats `check` until it no longer throws, at most `TIMEOUT_SECONDS`. */
export async function eventually(check) {
  const deadline = Date.now() + Number(process.env.TIMEOUT_SECONDS || 60) * 1000;
  for (;;) {
    try {
      return await check();
    } catch (error) {
      if (Date.now() > deadline) throw error;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }
}
