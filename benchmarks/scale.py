"""Run the pipeline on generated data of growing size, and measure each step: ``make bench-scale [SHAPE=4m]``.

The shapes are those of ``ml.data.synthetic_shapes``: 1, 4, 16 and 32 million ratings. Each step runs in a process of
its own, so that its peak memory is its own. Each shape has its own home, ``bench/scale/<shape>`` under PIPELINE_HOME;
finished steps are kept there, so that the same command resumes. Writes ``bench/scale.json``, and ``bench/scale.png``,
which draws it.
"""

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import dagster as dg
import yaml
from matplotlib.figure import Figure

from benchmarks.common import say, write_json
from ml.data.synthetic_shapes import SHAPES
from ml.files import write_atomically
from ml.settings_file import read_settings
from ml.training.recipes import RecipeBook
from orchestration.assets.operations import RUN_PLAN
from orchestration.automation.jobs import PIPELINE, SELECTIONS
from orchestration.config.data_sets import add_partition
from orchestration.config.settings import settings
from orchestration.definitions import build_definitions, definitions_of
from orchestration.resources.raw_data import RawData
from orchestration.runtime.instance import use_instance

_PREFIX = "synthetic-"
_MODEL, _EPOCHS = "autoint_collaborative", 1
_GENERATE = "generate"
_MIB = 2**10  # ru_maxrss is in KiB
_MEASURES = {"seconds": "seconds", "cpu_seconds": "CPU seconds", "peak_mb": "MiB of memory at most"}
_DRAWN = ("cpu_seconds", "peak_mb")
_NAMED = 10  # lines with a name in a drawing; the others are gray
Measures = dict[str, dict[str, float]]


class Shape:
    """One shape of the benchmark.

    Args:
        name: of the data set.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.folder = Path(settings().local_home) / "bench" / "scale" / name
        self.found: Measures = {}
        path = self.folder / "steps.json"
        if path.exists():
            self.found = json.loads(path.read_text())

    def run(self, before: "Shape | None") -> bool:
        """Run the steps that are not finished; gives whether all succeeded.

        Args:
            before: a smaller shape that is finished, from whose times the time left is estimated.
        """
        self._configure()
        steps = [_GENERATE, *self._steps()]
        for step in steps:
            if step in self.found:
                continue
            left = self._left(steps[steps.index(step) :], before)
            sys.stdout.write(f"{self.name}: {step} ({left})\n")
            sys.stdout.flush()
            measures = self._measured(step)
            if measures is None:
                return False
            self.found[step] = measures
            (self.folder / "steps.json").write_text(json.dumps(self.found, indent=1))
        return True

    def _configure(self) -> None:
        """Write the recipe and the gates: one model, one epoch, and no gate, since quality means nothing here."""
        self.folder.mkdir(parents=True, exist_ok=True)
        recipes = yaml.safe_load(settings().recipes_yaml.read_text("utf-8"))["recipes"]
        recipe = {**recipes[_MODEL], "training": {**recipes[_MODEL]["training"], "epochs": _EPOCHS}}
        (self.folder / "recipes.yaml").write_text(yaml.safe_dump({"recipes": {_MODEL: recipe}}), "utf-8")
        read_settings(self.folder / "recipes.yaml", RecipeBook)
        gates = yaml.safe_load(settings().mlflow_yaml.read_text("utf-8"))
        gates["promotion"] = {_MODEL: {"metric": "ndcg_at_10", "below_champion": 1, "below_movie_mean": 1}}
        (self.folder / "mlflow.yaml").write_text(yaml.safe_dump(gates), "utf-8")

    def _measured(self, step: str) -> dict[str, float] | None:
        """Run a step in a process of its own; None if it failed."""
        begin = time.monotonic()
        command = [sys.executable, "-m", "benchmarks.scale", "--step", self.name, step]
        with (self.folder / f"{step}.log").open("wb") as log:
            actions = [(os.POSIX_SPAWN_DUP2, log.fileno(), stream) for stream in (1, 2)]
            process = os.posix_spawn(sys.executable, command, self._environment, file_actions=actions)
            _, status, usage = os.wait4(process, 0)
        if status:
            sys.stdout.write(f"error: {step} failed; its output is in {log.name}\n")
            return None
        return {
            "seconds": time.monotonic() - begin,
            "cpu_seconds": usage.ru_utime + usage.ru_stime,
            "peak_mb": usage.ru_maxrss / _MIB,
        }

    def _steps(self) -> list[str]:
        """Names of the operations of the pipeline with the benchmark's recipe, in an order in which they can run."""
        command = [sys.executable, "-m", "benchmarks.scale", "--steps"]
        printed = subprocess.run(command, env=self._environment, stdout=subprocess.PIPE, check=True)  # noqa: S603
        return printed.stdout.decode().split()

    @property
    def _environment(self) -> dict[str, str]:
        variables = {
            "PIPELINE_HOME": self.folder / "home",
            "DAGSTER_HOME": self.folder / "dagster",
            "RECIPES_YAML": self.folder / "recipes.yaml",
            "MLFLOW_YAML": self.folder / "mlflow.yaml",
        }
        return {**os.environ, **{name: str(value) for name, value in variables.items()}}

    def _left(self, steps: list[str], before: "Shape | None") -> str:
        if before is None or not all(step in before.found for step in steps):
            return "time left unknown"
        factor = SHAPES[self.name].ratings / SHAPES[before.name].ratings
        return f"about {factor * sum(before.found[step]['seconds'] for step in steps) / 60:.0f} minutes left"

    def to_dict(self) -> dict[str, Any]:
        """Convert to a JSON-ready document."""
        shape = SHAPES[self.name]
        steps = {step: each for step, each in self.found.items() if step != _GENERATE}
        return {
            "ratings": shape.ratings,
            "users": shape.users,
            "items": shape.movies,
            "steps": steps,
            "total_seconds": sum(each["seconds"] for each in steps.values()),
            "peak_mb": max(each["peak_mb"] for each in steps.values()),
        }


def steps_of_pipeline() -> list[str]:
    """Names of the operations of the pipeline, in an order in which they can run."""
    graph = definitions_of(PIPELINE).resolve_asset_graph()
    chosen = SELECTIONS[PIPELINE].resolve(graph)
    ordered = [graph.get(key).assets_def.op.name for key in graph.toposorted_asset_keys if key in chosen]
    return [step for step in dict.fromkeys(ordered) if step != RUN_PLAN]


def run_step(name: str, step: str) -> bool:
    """Run one step in this process, whose environment names the shape's home; gives whether it succeeded."""
    use_instance()
    with dg.DagsterInstance.get() as instance:
        add_partition(instance, name)
        if step == _GENERATE:
            RawData.of(name).prepare()
            return True
        definitions = build_definitions(dg.in_process_executor)
        assets = definitions.resolve_asset_graph().assets_defs
        keys = next(asset.keys for asset in assets if asset.is_executable and asset.op.name == step)
        job = definitions.resolve_job_def(PIPELINE)
        return job.execute_in_process(instance=instance, partition_key=name, asset_selection=[*keys]).success


def main() -> int:
    """Run the benchmark on all shapes, or on that of the argument, such as ``4m``; gives the exit status."""
    names = [name for name in SHAPES if not sys.argv[1:] or name.removeprefix(_PREFIX) == sys.argv[1]]
    if not names:
        sys.exit(f"SHAPE={sys.argv[1]}; expected one of {', '.join(name.removeprefix(_PREFIX) for name in SHAPES)}")
    succeeded = all(_run(name) for name in names)
    found = [shape for name in SHAPES if len((shape := Shape(name)).found) > 1]
    write_json(settings().home / "bench" / "scale.json", {"shapes": [shape.to_dict() for shape in found]})
    for measure in _MEASURES:
        say(measure, _rows(found, measure), digits=0)
    if found:
        write_atomically(settings().home / "bench" / "scale.png", _drawing(found))
    return 0 if succeeded else 1


def _run(name: str) -> bool:
    smaller = [Shape(other) for other in SHAPES if SHAPES[other].ratings < SHAPES[name].ratings]
    return Shape(name).run(next((shape for shape in reversed(smaller) if shape.found), None))


def _drawing(shapes: list[Shape]) -> bytes:
    """Draw each step's CPU seconds and memory by the number of ratings, as PNG."""
    figure = Figure(figsize=(11, 5.5), layout="constrained")
    for axes, measure in zip(figure.subplots(1, 2), _DRAWN, strict=True):
        lines = {step: _points(shapes, step, measure) for step in _finished(shapes) if step != _GENERATE}
        largest = sorted(lines, key=lambda step: -lines[step][-1][1])[:_NAMED]
        for step, points in lines.items():
            style = {"label": step} if step in largest else {"color": "lightgray", "zorder": 1}
            axes.plot(*zip(*points, strict=True), marker="o", markersize=3, **style)
        axes.set(xscale="log", yscale="log", xlabel="millions of ratings", ylabel=_MEASURES[measure])
        axes.legend(fontsize=6, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=90, metadata={"Software": None})
    return buffer.getvalue()


def _points(shapes: list[Shape], step: str, measure: str) -> list[tuple[float, float]]:
    """Return millions of ratings and a step's measure, of the shapes where it is finished."""
    return [(SHAPES[shape.name].ratings / 1e6, shape.found[step][measure]) for shape in shapes if step in shape.found]


def _rows(shapes: list[Shape], measure: str) -> list[dict[str, object]]:
    return [
        {"step": step} | {shape.name: shape.found.get(step, {}).get(measure) for shape in shapes}
        for step in _finished(shapes)
    ]


def _finished(shapes: list[Shape]) -> list[str]:
    """Return the steps that are finished for any shape."""
    return list(dict.fromkeys(step for shape in shapes for step in shape.found))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--steps"]:
            sys.stdout.write("\n".join(steps_of_pipeline()))
        case ["--step", name, step]:
            sys.exit(0 if run_step(name, step) else 1)
        case _:
            sys.exit(main())
