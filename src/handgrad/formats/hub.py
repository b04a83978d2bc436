"""Public models by name, through `huggingface_hub` (extra `hub`): only what is needed, kept in its cache.

A name is owner/name, or owner/name@revision: a branch, a tag or a commit. The library's variables hold:
HF_HUB_OFFLINE=1 asks no network, HF_HOME says where the cache is, HF_TOKEN who asks.
"""

from pathlib import Path
from types import ModuleType

from handgrad.errors import UserError
from handgrad.formats import hugging_face, hugging_face_config
from handgrad.formats.hugging_face_text import GENERATION, TEMPLATE, TOKENIZER_CONFIG
from handgrad.formats.model_folder import CONFIG, TOKENIZER

BESIDES = (TOKENIZER, TOKENIZER_CONFIG, GENERATION, TEMPLATE)
LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"


def fetch(name: str) -> Path:
    """The folder of the public model `name`, in the cache.

    The configuration comes first: of a model that handgrad does not compute nothing else is fetched. All else
    is of the same commit. Raises `UserError` where there is no such model, no network, or no
    `huggingface_hub`.
    """
    folder = fetch_config(name)
    hugging_face_config.read(hugging_face.read_config(folder))
    commit = f"{_parts(name)[0]}@{folder.name}"
    for file in BESIDES:
        _fetch_if_there(commit, file)
    index = _fetch_if_there(commit, hugging_face.INDEX)
    for file in [hugging_face.WEIGHTS] if index is None else hugging_face.shards(index):
        _fetch(commit, file)
    return folder


def fetch_config(name: str) -> Path:
    """The same folder, with the configuration alone."""
    return _fetch(name, CONFIG).parent


def _parts(name: str) -> tuple[str, str | None]:
    """The model's own name, and its revision."""
    model, _, revision = name.partition("@")
    return model, revision or None


def _fetch(name: str, file: str) -> Path:
    hub, (model, revision) = _hub(name), _parts(name)
    try:
        return Path(hub.hf_hub_download(model, file, revision=revision))
    except Exception as error:  # its own, and those of the library that it asks the network with
        raise UserError(_in_words(hub, name, file, error)) from error


def _fetch_if_there(name: str, file: str) -> Path | None:
    """None where the model has no such file, or where without a network none is in the cache."""
    try:
        return _fetch(name, file)
    except UserError as error:
        if isinstance(error.__cause__, _hub(name).errors.EntryNotFoundError):
            return None  # in the cache, LocalEntryNotFoundError is one
        raise


def _in_words(hub: ModuleType, name: str, file: str, error: Exception) -> str:
    """Why a file of a public model is not there, and what helps."""
    (model, revision), errors = _parts(name), hub.errors
    nowhere = f"There is no file or folder {name}, and"
    if isinstance(error, errors.LocalEntryNotFoundError):
        cache = f"{nowhere} {file} of a public model of that name is not in {hub.constants.HF_HUB_CACHE}"
        if hub.constants.HF_HUB_OFFLINE:
            return f"{cache}, and HF_HUB_OFFLINE is set. Unset it, or check the name."
        if isinstance(error.__cause__, errors.HfHubHTTPError):
            return f"{cache}, and the hub cannot answer: {_reason(error.__cause__)}. Try again later."
        return f"{cache}, and no network answers. Check the name and the network."
    if isinstance(error, errors.GatedRepoError):
        page = f"{hub.constants.ENDPOINT}/{model}"
        return f"Who reads {model} has to agree to its terms first. Agree at {page}, then {LOG_IN}."
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"{nowhere} no public model {model}. Check the name; if it is private, {LOG_IN}."
    if isinstance(error, errors.RevisionNotFoundError):
        return (
            f"{model} has no revision {revision}. Name a branch, a tag or a commit, or leave out @{revision}."
        )
    if isinstance(error, errors.EntryNotFoundError):
        return f"The public model {model} has no {file}. Take one that is published as safetensors."
    return (
        f"{nowhere} {file} of a public model of that name cannot be fetched: {_reason(error)}. Check the "
        f"name, the network, and HF_TOKEN where it is set."
    )


def _reason(error: BaseException) -> str:
    """An error's first line, without its full stop."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".")


def _hub(name: str) -> ModuleType:
    try:
        import huggingface_hub
        import huggingface_hub.constants
        import huggingface_hub.errors
    except ImportError as error:
        raise UserError(
            f"There is no file or folder {name}. If it is a public model's name: pip install 'handgrad[hub]'."
        ) from error
    return huggingface_hub
