"""Public models by name, through `huggingface_hub` (extra `hub`): only what is needed, kept in its cache.

Its variables hold: HF_HUB_OFFLINE=1 asks no network, HF_HOME says where the cache is.
"""

from pathlib import Path
from typing import Any

from handgrad.errors import UserError
from handgrad.formats import hugging_face, hugging_face_config
from handgrad.formats.hugging_face_text import GENERATION, TEMPLATE, TOKENIZER_CONFIG
from handgrad.formats.model_folder import CONFIG, TOKENIZER

BESIDES = (TOKENIZER, TOKENIZER_CONFIG, GENERATION, TEMPLATE)


def fetch(name: str) -> Path:
    """The folder of the public model `name`, in the cache.

    The configuration comes first: of a model that handgrad does not compute nothing else is fetched. Raises
    `UserError` where there is no such model, no network, or no `huggingface_hub`.
    """
    folder = fetch_config(name)
    hugging_face_config.read(hugging_face.read_config(folder))
    for file in BESIDES:
        _fetch_if_there(name, file)
    index = _fetch_if_there(name, hugging_face.INDEX)
    for file in [hugging_face.WEIGHTS] if index is None else hugging_face.shards(index):
        _fetch(name, file)
    return folder


def fetch_config(name: str) -> Path:
    """The same folder, with the configuration alone."""
    return _fetch(name, CONFIG).parent


def _fetch(name: str, file: str) -> Path:
    hub = _hub(name)
    try:
        return Path(hub.hf_hub_download(name, file))
    except hub.errors.LocalEntryNotFoundError as error:
        raise UserError(
            f"There is no file or folder {name}, and {file} of a public model of that name is neither in the "
            f"cache, nor does a network answer. Check the name, HF_HUB_OFFLINE and the network."
        ) from error
    except hub.errors.EntryNotFoundError as error:
        raise UserError(
            f"The public model {name} has no {file}. Take one that is published as safetensors."
        ) from error
    except (hub.errors.HfHubHTTPError, hub.errors.HFValidationError, OSError) as error:
        reason = str(error).strip().splitlines()[:1] or [type(error).__name__]
        raise UserError(
            f"There is no file or folder {name}, and {file} of a public model of that name cannot be "
            f"fetched: {reason[0]} Check the name, and who may read it."
        ) from error


def _fetch_if_there(name: str, file: str) -> Path | None:
    """None where the model has no such file, or where without a network none is in the cache."""
    hub = _hub(name)
    try:
        return Path(hub.hf_hub_download(name, file))
    except hub.errors.EntryNotFoundError:  # in the cache, LocalEntryNotFoundError is one
        return None
    except (hub.errors.HfHubHTTPError, OSError):
        return _fetch(name, file)


def _hub(name: str) -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ImportError as error:
        raise UserError(
            f"There is no file or folder {name}. If it is a public model's name: pip install 'handgrad[hub]'."
        ) from error
    return huggingface_hub
