"""Which encoder a spec means."""

from __future__ import annotations

from clipsearch.encoders.base import Encoder, EncoderOptions, same_model
from clipsearch.encoders.specs import BUILTIN_SPEC, parse_spec
from clipsearch.errors import ModelMismatchError, UsageError
from clipsearch.types import EncoderInfo, Notice


def load_encoder(spec: str, options: EncoderOptions = EncoderOptions()) -> Encoder:
    """The encoder that `spec` names, with its fingerprint (from the cache where its files are unchanged).

    Downloads the weights of a hub's model that is not cached.
    Raises UsageError for an invalid spec, or an 8-bit one (see `Encoder.quantised`), EncoderError and DownloadError.
    """
    parsed = parse_spec(spec)
    if parsed.int8:
        advice = f'index with `model="{parsed.base.name}"` and `precision="int8"`'
        raise UsageError(f"{spec}: int8 is calibrated with your images first", advice=advice)
    if parsed.kind == "builtin":
        from clipsearch.encoders.builtin.encoder import BuiltinEncoder

        return BuiltinEncoder(options)
    from clipsearch.encoders.clip.openclip import load_open_clip

    return load_open_clip(parsed, options)


def reload_encoder(info: EncoderInfo, options: EncoderOptions = EncoderOptions()) -> Encoder:
    """An encoder that a library recorded, without touching its weights until a side is used.

    Raises, at first use, ModelMismatchError where the spec now resolves to other weights.
    """
    if info.spec != BUILTIN_SPEC:
        from clipsearch.encoders.clip.openclip import reload_open_clip

        return reload_open_clip(info, options)
    from clipsearch.encoders.builtin.encoder import BuiltinEncoder

    encoder = BuiltinEncoder(options)
    if not same_model(encoder.info.details, info.details):
        raise ModelMismatchError(
            "this library was made with another version of the built-in encoder",
            advice=f'index again with `model="{BUILTIN_SPEC}"`',
        )
    return encoder


def refuse_int8(encoder: Encoder) -> None:
    """Raise UsageError where an encoder is known, without loading it, to have no 8-bit form."""
    from clipsearch.encoders.onnx.quantisation import may_have_int8

    if not may_have_int8(encoder.info):
        reason = f'`precision="int8"`: {encoder.info.spec} has no 8-bit form, only vision transformers do'
        raise UsageError(reason, advice="leave it out")


def default_spec() -> tuple[str, str | None]:
    """The spec for a new library, and the reason if it is the fallback (see docs/models.md).

    Raises DownloadError where the hub answers with a failure of its own.
    """
    from clipsearch.encoders.clip import hub

    return hub.default_spec()


def load_alone(model: str | None, options: EncoderOptions | None) -> tuple[Encoder, tuple[Notice, ...]]:
    """The encoder for work without a library: `model`, or the one that a new library would get.

    With a notice if it is the fallback. Raises as `load_encoder` and `default_spec`.
    """
    spec, fallback = (model, None) if model is not None else default_spec()
    notices = (fallback_notice(fallback, "`model` chooses another"),) if fallback else ()
    return load_encoder(spec, options or EncoderOptions()), notices


def fallback_notice(reason: str, advice: str) -> Notice:
    """That nobody chose the built-in encoder, why it is used, and how to choose another."""
    return Notice("fallback", f"answered by the built-in encoder, which is not CLIP ({reason}); {advice}")
