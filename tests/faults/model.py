"""What a key may hold, given what was asked and what was answered.

A change that was answered is certain. One that was not (a reset, a 5xx, the proxy killed) may have
happened, may not, and may happen later, even over changes that were answered meanwhile. Body,
attributes and tags are followed apart, because a late change of one does not undo the others.
"""

from dataclasses import dataclass, field

ABSENT = None
ASPECTS = ("body", "attributes", "tags")


@dataclass(eq=False)
class Key:
    """One key; changed by one thread only, or `shared` by all and then not followed."""

    bucket: str
    name: str
    shared: bool = False
    #: What the last answered change left, by aspect.
    certain: dict = field(
        default_factory=lambda: {"body": {ABSENT}, "attributes": {()}, "tags": {()}}
    )
    #: What unanswered changes may still bring.
    late: dict = field(default_factory=lambda: {aspect: set() for aspect in ASPECTS})
    #: Everything ever asked for.
    ever: dict = field(default_factory=lambda: {aspect: set() for aspect in ASPECTS})
    #: Keys that an unanswered copy may still read, as they are by then.
    late_sources: set = field(default_factory=set)
    copied_from: set = field(default_factory=set)

    def changed(self, effect, answered):
        """`effect`: aspect -> value."""
        if self.shared:
            return
        for aspect, value in effect.items():
            self.ever[aspect].add(value)
            if answered:
                self.certain[aspect] = {value}
            else:
                self.late[aspect].add(value)

    def copied(self, source, answered):
        if self.shared:
            return
        self.copied_from.add(source)
        if not answered:
            self.late_sources.add(source)
            return
        for aspect in ASPECTS:
            values = source.certain[aspect] | source.late[aspect]
            self.certain[aspect] = set(values)
            self.ever[aspect] |= values
        self.late_sources |= source.late_sources

    def possible(self, aspect):
        values = self.certain[aspect] | self.late[aspect]
        seen, todo = set(), list(self.late_sources)
        while todo:
            source = todo.pop()
            if source not in seen:
                seen.add(source)
                values |= source.ever[aspect]
                todo += source.copied_from
        return values

    def fault(self, observed):
        """Says what is wrong with what main holds; None when it may be so."""
        wrong = "body" if observed["body"] not in self.possible("body") else None
        if wrong is None and observed["body"] is not ABSENT:
            for aspect in ("attributes", "tags"):
                if observed[aspect] not in self.possible(aspect):
                    wrong = aspect
        if wrong is None:
            return None
        return (
            f"{self.bucket}/{self.name}: main's {wrong} is {observed[wrong]!r}, "
            f"certain was {self.certain[wrong]!r}, late {self.late[wrong]!r}"
        )
