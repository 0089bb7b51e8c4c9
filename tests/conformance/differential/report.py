def show(verdicts, verbose=False):
    for v in verdicts:
        if v.differences and (verbose or not v.passed):
            print(f"== {v.family}: {v.title} ({v.method}) mode={v.mode} reason={v.reason!r} worded={v.worded}")
            for a,(l,r) in v.differences.items(): print(f"   {a}: direct {l[:300]!r}\n   {' '*len(a)}  proxy  {r[:300]!r}")
    print(len(verdicts), sum(not v.differences for v in verdicts))
