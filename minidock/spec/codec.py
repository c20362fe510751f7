"""Between JSON objects and frozen dataclasses.

JSON spells names ``likeThis``, Python ``like_this``, and a specification's
optional property is often *absent* rather than null, which must survive a
round trip. One rule does for all the values in this package: a field's JSON
name is its camel-case spelling unless the field says otherwise
(:func:`named`), a field whose value equals its default is left out on the
way back, and an unknown property is ignored, as the OCI specifications ask
("implementations MUST NOT fail on unknown properties").

The trap is a JSON value of the wrong type: it must be found here, with the
path of the property in the message, not as an AttributeError deep in the
engine.

**Interface:** :func:`decode`, :func:`encode`, :func:`named`, :func:`value`.

**See:** OCI runtime specification, config.md, "Extensibility".
"""

import types
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from functools import cache
from typing import (
    Any,
    ClassVar,
    NoReturn,
    TypeVar,
    Union,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

from minidock.errors import InvalidParameter

T = TypeVar("T")


# %% Thirty classes with the same methods
class Value:
    """What ``dataclass`` would write for each class, once for all of a specification's classes.

    It writes methods as text and compiles them, for every class, whenever a
    program starts. For the classes of ``config.json`` that was a sixth of the
    time in which the runtime makes a whole container.
    """

    __slots__: tuple[str, ...] = ()
    __dataclass_fields__: ClassVar[dict[str, "Field[Any]"]]

    def __init__(self, *positional: Any, **named: Any) -> None:
        given = dict(zip(self.__slots__, positional, strict=False)) | named
        if len(given) < len(positional) + len(named) or given.keys() - set(self.__slots__):
            raise TypeError(f"{type(self).__name__}: {positional} {named}: too many, or unknown")
        for name, spec in self.__dataclass_fields__.items():
            if name not in given:
                given[name] = _default(spec, type(self))
            object.__setattr__(self, name, given[name])

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is frozen: {name} cannot be changed")

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    def __hash__(self) -> int:
        return hash(tuple(getattr(self, name) for name in self.__slots__))

    def __repr__(self) -> str:
        pairs = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__slots__)
        return f"{type(self).__name__}({pairs})"


def _default(spec: "Field[Any]", cls: type) -> Any:
    if spec.default is not MISSING:
        return spec.default
    if spec.default_factory is MISSING:
        raise TypeError(f"{cls.__name__}: {spec.name} is missing")
    return spec.default_factory()


def named(name: str, **options: Any) -> Any:
    """A field whose JSON name is not its camel-case spelling."""
    return field(metadata={"json": name}, **options)


@dataclass_transform(frozen_default=True, field_specifiers=(field, named))
def value(cls: type[T]) -> type[T]:
    """A frozen dataclass whose methods are those of :class:`Value`, from which it must be derived."""
    return dataclass(init=False, repr=False, eq=False, slots=True)(cls)


# %% Names in JSON and in Python
def _json_name(spec: "Field[Any]") -> str:
    name = spec.metadata.get("json")
    if name is not None:
        return str(name)
    head, *rest = spec.name.rstrip("_").split("_")
    return head + "".join(word.capitalize() for word in rest)


@cache
def _plan(cls: Any) -> list[tuple["Field[Any]", str, Any]]:
    """Only a type that is written as a string has to be looked up, which takes its time."""
    found = fields(cls)
    late = any(isinstance(spec.type, str) for spec in found)
    hints = get_type_hints(cls) if late else {spec.name: spec.type for spec in found}
    return [(spec, _json_name(spec), hints[spec.name]) for spec in found]


# %% From JSON
def decode(cls: type[T], data: Any, where: str = "") -> T:
    """``data``, a JSON object, as a ``cls``.

    Raises :class:`InvalidParameter` naming the property when a value has the
    wrong type or a required property is missing.
    """
    if not isinstance(data, dict):
        raise InvalidParameter(f"{where or cls.__name__}: expected an object, not {data!r}")
    values: dict[str, Any] = {}
    for spec, name, hint in _plan(cls):  # type: ignore[arg-type]  # a class is hashable
        path = f"{where}.{name}" if where else name
        if data.get(name) is not None:
            values[spec.name] = _value(hint, data[name], path)
        elif spec.default is MISSING and spec.default_factory is MISSING:
            raise InvalidParameter(f"{path}: this property is required")
    return cls(**values)


def _value(hint: Any, value: Any, path: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        (inner,) = (argument for argument in arguments if argument is not type(None))
        return _value(inner, value, path)
    if origin is tuple:
        _expect(list, value, path)
        return tuple(_value(arguments[0], item, f"{path}[{n}]") for n, item in enumerate(value))
    if origin is dict:
        _expect(dict, value, path)
        return {key: _value(arguments[1], item, f"{path}.{key}") for key, item in value.items()}
    if is_dataclass(hint):
        return decode(hint, value, path)  # type: ignore[arg-type]
    return _expect(hint, value, path)


def _expect(kind: type, value: Any, path: str) -> Any:
    if kind is float and type(value) is int:
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise InvalidParameter(f"{path}: expected {_NAMES.get(kind, kind)}, not {value!r}")
    return value


_NAMES = {
    str: "a string",
    int: "an integer",
    bool: "true or false",
    list: "an array",
    dict: "an object",
    float: "a number",
}


# %% To JSON
def encode(value: Any) -> Any:
    """``value``, a dataclass or a container of them, as JSON; what equals its default is left out."""
    if is_dataclass(value) and not isinstance(value, type):
        result = {}
        for spec, name, _ in _plan(type(value)):
            item = getattr(value, spec.name)
            if not _is_default(spec, item):
                result[name] = encode(item)
        return result
    if isinstance(value, tuple | list):
        return [encode(item) for item in value]
    if isinstance(value, dict):
        return {key: encode(item) for key, item in value.items()}
    return value


def _is_default(spec: "Field[Any]", item: Any) -> bool:
    if spec.default is not MISSING:
        return bool(item == spec.default)
    return spec.default_factory is not MISSING and bool(item == spec.default_factory())
