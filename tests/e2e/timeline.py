"""Draws where the time of each failover went."""

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot as plot

# The same record gives the same picture.
plot.rcParams["svg.hashsalt"] = "timeline"
# Text stays text, which is smaller than its outlines.
plot.rcParams["svg.fonttype"] = "none"
SPANS = [
    ("the cache moves", None, "moved", "#8c8c8c"),
    ("the function notices", "moved", "registered", "#0072b2"),
    ("the load balancer takes the target in", "registered", "inService", "#e69f00"),
]
RECONNECTING = ("the last client leaves the old node and connects again", "#56b4e9")
# The ways in which the function is woken, or what takes its place.
MODES = {"schedule": "once a minute", "polling": "polling", "notification": "notification", "sample": "AWS's sample"}


def title(cell):
    ending = "" if cell["is_terminated"] else ", connections kept"
    return f"{MODES[cell['mode']]}, {cell['failover']}\ndelay {cell['delay']} s{ending}"


def draw(records, path):
    """Draws one row for each failover, in seconds since the failover."""
    figure, axes = plot.subplots(figsize=(9, 1 + 0.62 * len(records)), layout="constrained")
    for row, record in enumerate(records):
        for label, begin, end, colour in SPANS:
            left = record[begin] if begin else 0
            axes.barh(row, record[end] - left, left=left, color=colour, height=0.5, label=label if row == 0 else None)
        clients = record["clients"].values()
        served = record["inService"]
        if all(client["isBack"] for client in clients):
            back = max(client["back"] for client in clients)
            label = RECONNECTING[0] if row == 0 else None
            axes.barh(row, max(back - served, 0), left=served, color=RECONNECTING[1], height=0.5, label=label)
        else:
            axes.text(served, row, "  clients stay on the old node, and are not back", va="center", fontsize=8)
        last = record["lastOnOld"]
        if last > 0:
            label = "last connection on the old node" if row == 0 else None
            axes.plot(last, row, "k|", markersize=18, markeredgewidth=2, label=label)
    axes.set_yticks(range(len(records)), [title(record["cell"]) for record in records], fontsize=8)
    axes.invert_yaxis()
    factor = records[0]["factor"]
    axes.set_xlabel(f"seconds since the failover; the schedule and the load balancer's times are divided by {factor}")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    figure.savefig(path, metadata={"Date": None})
