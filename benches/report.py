"""Figures: what was measured, as a table for people and as JSON for programs."""
import dataclasses
import statistics


@dataclasses.dataclass
class Figure:
    """One metric of one case: a value for each run, ours and, where there is one, the peer's."""
    case: str
    metric: str
    unit: str
    ours: list[float]
    peer: list[float] = dataclasses.field(default_factory=list)

    @property
    def ratio(self):
        """Ours / peer. Of seconds less is better, of changes/s more."""
        if not self.peer or not statistics.median(self.peer):
            return None
        return statistics.median(self.ours) / statistics.median(self.peer)

    def as_json(self):
        return {
            "case": self.case, "metric": self.metric, "unit": self.unit,
            "ours": rounded(statistics.median(self.ours)),
            "peer": rounded(statistics.median(self.peer)) if self.peer else None,
            "ratio": rounded(self.ratio),
            "min": rounded(min(self.ours)), "max": rounded(max(self.ours)),
            "runs": len(self.ours),
        }

    def row(self):
        return [self.case, self.metric, self.unit, *spread(self.ours),
                *(spread(self.peer) if self.peer else ["", "", ""]),
                "" if self.ratio is None else f"{self.ratio:.2f}", str(len(self.ours))]


HEADER = ["case", "metric", "unit", "ours", "min", "max", "peer", "min", "max", "ours/peer", "runs"]
LEFT = 3  # columns of text


def rounded(value):
    if value is None:
        return None
    return round(value) if abs(value) >= 1000 else round(value, 4)


def readable(value):
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def spread(values):
    return [readable(statistics.median(values)), readable(min(values)), readable(max(values))]


def table(figures):
    """Medians, and the least and the greatest of each side."""
    rows = [HEADER, *(figure.row() for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    return "\n".join(
        "  ".join(cell.ljust(width) if column < LEFT else cell.rjust(width)
                  for column, (cell, width) in enumerate(zip(row, widths))).rstrip()
        for row in rows)


def as_json(name, figures):
    return {"bench": name, "cases": [figure.as_json() for figure in figures]}
