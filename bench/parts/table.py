"""The table of results: what, Pontoon's figure, the peer's, and how many times better Pontoon is."""

import statistics


def short(number):
    return f"{number:.0f}" if number >= 100 else f"{number:.3g}"


def figures(values, unit, worst=False):
    """Median and range of samples, or median and worst."""
    middle = statistics.median(values)
    rest = f"worst {short(max(values))}" if worst else f"{short(min(values))}..{short(max(values))}"
    return f"{short(middle)} {unit} ({rest}, n={len(values)})"


class Table:
    """Rows as they are measured; each is printed at once, so that a run cut short shows what it has."""

    HEAD = ("what", "Pontoon", "peer", "ratio", "others' CPU, Pontoon / peer", "conditions")

    def __init__(self):
        self.rows = []

    def add(self, what, ours, peer=None, more_is_better=False, others="", conditions=""):
        """`ours` and `peer` are (number, text); the ratio is above 1 where Pontoon is better."""
        ratio = ""
        if peer and peer[0] and ours[0]:
            ratio = f"{(ours[0] / peer[0]) if more_is_better else (peer[0] / ours[0]):.2f}"
        row = (what, ours[1], peer[1] if peer else "–", ratio or "–", others, conditions)
        self.rows.append(row)
        print("   " + " | ".join(cell for cell in row if cell), flush=True)

    def text(self):
        lines = [self.HEAD, tuple("---" for _ in self.HEAD), *self.rows]
        return "\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines)
