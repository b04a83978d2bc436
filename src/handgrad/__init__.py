"""handgrad: a generative transformer whose every gradient is derived by hand, and proved.

    import handgrad

    folder = handgrad.train("book.txt", preset="nano", steps=2000)
    model = handgrad.load(folder)
    print(handgrad.generate(model, "The "))

    loss, gradients = handgrad.loss_and_gradients(config, weights, token_ids, targets)
    handgrad.check("layer_norm")

The formulas are in `handgrad.ops`, one file each; where the story starts is `handgrad.foundations`.
"""

from handgrad import parameters as parameters
from handgrad.api import from_named, logits, loss_and_gradients
from handgrad.errors import UserError
from handgrad.formats.exports import export
from handgrad.formats.model_folder import Model, save
from handgrad.formats.sources import load
from handgrad.generation.stream import generate
from handgrad.model.config import PRESETS, ModelConfig, preset
from handgrad.model.init import init
from handgrad.model_proof import check_model
from handgrad.proof import check
from handgrad.trace import trace
from handgrad.training.curves import plot
from handgrad.training.recipe import RECIPES, Recipe
from handgrad.training.run import resume, train
from handgrad.training.sweeps.sweep import resume_sweep, sweep
from handgrad.verify import verify

__version__ = "0.1.0"

__all__ = [
    "PRESETS",
    "RECIPES",
    "Model",
    "ModelConfig",
    "Recipe",
    "UserError",
    "check",
    "check_model",
    "export",
    "from_named",
    "generate",
    "init",
    "load",
    "logits",
    "loss_and_gradients",
    "plot",
    "preset",
    "resume",
    "resume_sweep",
    "save",
    "sweep",
    "trace",
    "train",
    "verify",
]
