"""numbers -> pictures.

`draw_run` is the room; importing it imports no matplotlib.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from linnet.run import Run

__all__ = ["draw_run"]


def draw_run(run: Run) -> list[Path]:
    """The files written into the run's `plots` folder, each whole or not at all.

    loss_perplexity_curves.png, training_curves.png (where anything was logged), architecture_diagram.txt and .png,
    and tokenizer_analysis.png (where the prepared data is still there).

    Raises:
        UserError: the configuration cannot be read, or the folder cannot be written.
    """
    from linnet.files import write_text
    from linnet.plots.curves import loss_perplexity_curves, training_curves
    from linnet.plots.diagram import architecture_diagram, architecture_picture
    from linnet.plots.figures import save_png
    from linnet.plots.tokenizer import tokenizer_analysis
    from linnet.run.rows import read_rows
    from linnet.run.text import sample_statistics

    rows, name = read_rows(run.metrics_file), run.path.resolve().name
    written = [save_png(loss_perplexity_curves(rows, name), run.plots / "loss_perplexity_curves.png")]
    if rows:
        written.append(
            save_png(training_curves(rows, name, optim=run.config().get("optim")), run.plots / "training_curves.png")
        )
    diagram, model = run.plots / "architecture_diagram.txt", run.model_config()
    write_text(diagram, architecture_diagram(model))
    written += [diagram, save_png(architecture_picture(model, name), diagram.with_suffix(".png"))]
    statistics = sample_statistics(run)
    if statistics is not None:
        written.append(save_png(tokenizer_analysis(statistics, name), run.plots / "tokenizer_analysis.png"))
    return written
