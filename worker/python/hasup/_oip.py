"""Inference requests of the Open Inference Protocol v2, JSON and binary, to and from arrays; numpy where it is used."""
from __future__ import annotations

import array
import itertools
import json
import math
import os
import struct
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Sequence, Set, Tuple, Union

from ._worker import Error, Reply, Request

RANK_MAX = 16

#: array's code for each datatype; "" where an array has none
CODES = {"BOOL": "", "UINT8": "B", "UINT16": "H", "UINT32": "I", "UINT64": "Q", "INT8": "b", "INT16": "h", "INT32": "i",
         "INT64": "q", "FP16": "", "BF16": "", "FP32": "f", "FP64": "d", "BYTES": ""}
SIZES = {"BOOL": 1, "UINT8": 1, "UINT16": 2, "UINT32": 4, "UINT64": 8, "INT8": 1, "INT16": 2, "INT32": 4, "INT64": 8,
         "FP16": 2, "BF16": 2, "FP32": 4, "FP64": 8}
#: numpy's name for each; BF16, which it has not, as the float32 that holds it
NUMPY = {"BOOL": "bool", "FP16": "float16", "BF16": "float32", "FP32": "float32", "FP64": "float64", "BYTES": "object",
         **{f"{sign}INT{bits}": f"{sign.lower()}int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)}}


class TensorSpec(NamedTuple):
    """One input or output of a model; -1 in its shape: any."""
    name: str
    datatype: str
    shape: Sequence[int]
    optional: bool = False


class Signature:
    """What a model takes and gives: requests are checked against it, and GET /v2/models/M tells it."""

    def __init__(self, inputs: Iterable[TensorSpec], outputs: Iterable[TensorSpec], platform: str = "",
                 versions: Optional[Sequence[str]] = None) -> None:
        self.inputs = {spec.name: spec for spec in inputs}
        self.outputs = {spec.name: spec for spec in outputs}
        self.platform, self.versions = platform, versions
        for spec in (*self.inputs.values(), *self.outputs.values()):
            if spec.datatype not in CODES or len(spec.shape) > RANK_MAX:
                raise ValueError(f"tensor {spec.name!r} has an unknown datatype, or more than {RANK_MAX} dimensions")

    def metadata(self) -> str:
        """As JSON, for the worker's hello."""
        told: Dict[str, Any] = {"versions": list(self.versions)} if self.versions else {}
        told["platform"] = self.platform
        for side in ("inputs", "outputs"):
            told[side] = [{"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape),
                           **({"optional": True} if spec.optional else {})} for spec in getattr(self, side).values()]
        return json.dumps(told, ensure_ascii=False, separators=(",", ":"))


class Tensor:
    """An array: its elements in row-major order, as one flat sequence.

    `data` is an array.array or memoryview of numbers (of FP16 and BF16: of floats), or a list of bool or bytes.
    What came as binary data may be a view of the request's body, which is valid until the answer."""

    def __init__(self, name: str, datatype: str, shape: Sequence[int], data: Any) -> None:
        self.name, self.datatype, self.shape, self.data = name, datatype, tuple(shape), data

    def __len__(self) -> int:
        return len(self.data)

    def tolist(self) -> Any:
        """Lists in lists, as the shape says."""
        flat = self.data if isinstance(self.data, list) else self.data.tolist()
        if not self.shape:
            return flat[0]
        for size in reversed(self.shape[1:]):
            flat = [flat[at:at + size] for at in range(0, len(flat), size)] if size else []
        return flat if len(flat) == self.shape[0] else [[] for _ in range(self.shape[0])]

    def numpy(self) -> Any:
        """As a numpy array; BF16 as float32, BYTES as objects.  It may share memory with `data`."""
        import numpy
        kind = NUMPY[self.datatype]
        if isinstance(self.data, list):
            made = numpy.empty(len(self.data), dtype=kind)
            made[:] = self.data
        elif self.datatype == "FP16":
            made = numpy.asarray(self.data, dtype="float32").astype(kind)
        else:
            made = numpy.frombuffer(self.data, dtype=kind) if len(self.data) else numpy.empty(0, kind)
        return made.reshape(self.shape)

    def __array__(self, dtype: Any = None, copy: Optional[bool] = None) -> Any:
        made = self.numpy()
        return made if dtype is None else made.astype(dtype)


# ---- elements ----

def _bf16_bits(value: float) -> int:
    """Rounded to the nearest, ties to even."""
    bits: int = struct.unpack("<Q", struct.pack("<d", value))[0]
    sign, exponent, fraction = bits >> 63 << 15, bits >> 52 & 0x7FF, bits & (1 << 52) - 1
    if exponent == 0x7FF:
        return sign | 0x7F80 | (0x40 if fraction else 0)
    exponent, fraction, shift = exponent - 1023 + 127, fraction | 1 << 52, 45
    if exponent <= 0:
        shift, exponent = shift + 1 - exponent, 1
    kept, rest, half = fraction >> shift, fraction & (1 << shift) - 1, 1 << shift - 1
    kept += rest > half or (rest == half and kept & 1)
    return sign | min(kept + (exponent - 1 << 7), 0x7F80)


def _to_bytes(datatype: str, data: Any) -> bytes:
    if datatype == "BYTES":
        return b"".join(struct.pack("<I", len(one)) + one for one in data)
    if datatype == "BOOL":
        return bytes(map(bool, data))
    if datatype == "FP16":
        return struct.pack(f"<{len(data)}e", *data)
    if datatype == "BF16":
        return array.array("H", map(_bf16_bits, data)).tobytes()
    return bytes(memoryview(data).cast("B")) if len(data) else b""


def _from_bytes(datatype: str, data: memoryview) -> Any:
    if datatype == "BOOL":
        return list(map(bool, data))
    if datatype == "FP16":
        return array.array("f", struct.unpack(f"<{len(data) // 2}e", data))
    if datatype == "BF16":
        made = array.array("f")
        made.frombytes(array.array("I", [half << 16 for half, in struct.iter_unpack("<H", data)]).tobytes())
        return made
    return data.cast(CODES[datatype])


def _element(datatype: str, value: Any) -> Any:
    """One element as `data` holds it.  ValueError, TypeError or OverflowError: it is none of that type."""
    if datatype == "BYTES":
        if isinstance(value, (bytes, bytearray)):
            return bytes(value)
        if isinstance(value, str):
            return value.encode()
        raise TypeError
    if datatype == "BOOL":
        if isinstance(value, bool) or (isinstance(value, int) and 0 <= value <= 1):
            return bool(value)
        raise TypeError
    if isinstance(value, bool) or not isinstance(value, int if "INT" in datatype else (int, float)):
        raise TypeError
    if "INT" in datatype:
        return array.array(CODES[datatype], [value])[0]
    found = float(value)
    if datatype == "FP16":
        found = struct.unpack("<e", struct.pack("<e", found))[0]
    elif datatype == "BF16":
        found = struct.unpack("<f", struct.pack("<I", _bf16_bits(found) << 16))[0]
    elif datatype == "FP32":
        found = array.array("f", [found])[0]
    if math.isinf(found) and not (isinstance(value, float) and math.isinf(value)):
        raise OverflowError
    return found


class _NotOfType(Exception):
    """The element at `index`, `value`."""

    def __init__(self, index: int, value: Any) -> None:
        super().__init__(index)
        self.index, self.value = index, value


def _elements(datatype: str, flat: List[Any]) -> Any:
    """A flat list as `data` holds it."""
    code, kinds = CODES[datatype], set(map(type, flat))
    numbers: Set[type] = {int} if "INT" in datatype else {int, float}
    if code and kinds <= numbers:
        try:
            made = array.array(code, flat)
            if "INT" in datatype or not (math.inf in made or -math.inf in made):
                return made
        except OverflowError:
            pass
    made_list = []
    for index, value in enumerate(flat):
        try:
            made_list.append(_element(datatype, value))
        except (ValueError, TypeError, OverflowError):
            raise _NotOfType(index, value) from None
    if datatype in ("FP16", "BF16"):
        return array.array("f", made_list)
    return array.array(code, made_list) if code else made_list


# ---- shapes ----

def _count(shape: Sequence[int]) -> int:
    return math.prod(shape)


def _shape_text(shape: Sequence[int]) -> str:
    return str(list(shape))


def _fits(spec: TensorSpec, shape: Sequence[int]) -> bool:
    return len(spec.shape) == len(shape) and all(want in (-1, got) for want, got in zip(spec.shape, shape))


def _flatten(name: str, data: Any, shape: Sequence[int]) -> List[Any]:
    """The elements of flat or nested data, which is to have that shape."""
    if not shape and not isinstance(data, list):
        return [data]
    if not isinstance(data, list):
        raise Error(400, f'input "{name}": data: expected a list')
    if len(shape) > 1 and data and isinstance(data[0], list):
        level = [data]
        for depth, size in enumerate(shape):
            if not all(isinstance(one, list) for one in level):
                raise Error(400, f'input "{name}": data is nested {depth} deep, its shape {len(shape)}')
            if not all(len(one) == size for one in level):
                raise Error(400, f'input "{name}": a list of data at depth {depth} has not {size} items, as its shape says')
            level = list(itertools.chain.from_iterable(level))
        return level
    count = _count(shape)
    if len(data) != count:
        got = "more" if len(data) > count else len(data) if count <= 4 * len(data) + 4 else "fewer"
        raise Error(400, f'input "{name}": shape {_shape_text(shape)} has {count} elements, data has {got}')
    return data


def _flatten_any(value: Any) -> Tuple[Tuple[int, ...], List[Any]]:
    """The shape of lists in lists, and their elements; ValueError: they are of different lengths."""
    shape, level = [], value
    if not isinstance(value, (list, tuple, array.array, range)):
        return (), [value]
    level = [value]
    while level and isinstance(level[0], (list, tuple, array.array, range)):
        size = len(level[0])
        if not all(isinstance(one, (list, tuple, array.array, range)) and len(one) == size for one in level):
            raise ValueError("its lists are of different lengths")
        shape.append(size)
        level = list(itertools.chain.from_iterable(level))
    return tuple(shape), level


# ---- one request ----

class Infer:
    """One inference request.

        def infer(self, request):
            asked = hasup.Infer(request)
            return asked.answer({"digit": self.model.predict(asked["image"].numpy())})

    Raises hasup.Error(400) with the tensor's name, what was expected and what came; where the worker has a `signature`,
    inputs are checked against it."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._signature: Optional[Signature] = request.signature
        body = memoryview(request.body)
        length = self._json_length(len(body))
        self._tail = body[length:]
        self.body = self._load(bytes(body[:length]))
        self.id: Optional[str] = self.body.get("id")
        if self.id is not None and not isinstance(self.id, str):
            raise Error(400, "id: expected a string")
        self.parameters = self._object("parameters", self.body.get("parameters"))
        self.inputs: Dict[str, Tensor] = {}
        self._binary = self._flag(self.parameters, "binary_data_output", False)
        self._wanted = self._outputs(self.body.get("outputs"))
        inputs = self.body.get("inputs", [])
        if not isinstance(inputs, list):
            raise Error(400, "inputs: expected a list")
        for index, one in enumerate(inputs):
            tensor = self._input(index, one)
            self.inputs[tensor.name] = tensor
        for spec in self._signature.inputs.values() if self._signature else ():
            if not spec.optional and spec.name not in self.inputs:
                raise Error(400, f'there is no input "{spec.name}"')
        if self._tail:
            raise Error(400, f"{len(self._tail)} bytes of the body are left behind the last tensor")

    def __getitem__(self, name: str) -> Tensor:
        return self.inputs[name]

    def wants(self, output: str) -> bool:
        """Whether the client wants that output: where it names none, it wants all."""
        return not self._wanted or output in self._wanted

    # ---- reading ----

    def _json_length(self, whole: int) -> int:
        text = self._request.headers.get("inference-header-content-length")
        if text is None:
            return whole
        if not (text.isascii() and text.isdigit()) or int(text) > whole:
            raise Error(400, f"Inference-Header-Content-Length: {text[:40]}, of a body of {whole} bytes")
        return int(text)

    @staticmethod
    def _load(text: bytes) -> Dict[str, Any]:
        def refuse(word: str) -> None:
            raise ValueError(f"{word} is no number")
        try:
            found = json.loads(text, parse_constant=refuse)
        except (ValueError, RecursionError) as error:
            raise Error(400, f"the body is not JSON: {error}") from None
        if not isinstance(found, dict):
            raise Error(400, "the body is not a JSON object")
        return found

    @staticmethod
    def _object(where: str, value: Any) -> Dict[str, Any]:
        if value is not None and not isinstance(value, dict):
            raise Error(400, f"{where}: expected an object of parameters")
        return value or {}

    @staticmethod
    def _flag(parameters: Dict[str, Any], name: str, otherwise: bool) -> bool:
        value = parameters.get(name)
        if value is not None and not isinstance(value, bool):
            raise Error(400, f'parameter "{name}": expected true or false')
        return otherwise if value is None else value

    def _outputs(self, listed: Any) -> Dict[str, bool]:
        """Those that are wanted; whether as binary data."""
        if listed is not None and not isinstance(listed, list):
            raise Error(400, "outputs: expected a list")
        wanted: Dict[str, bool] = {}
        for index, one in enumerate(listed or ()):
            where = f"outputs[{index}]"
            if not isinstance(one, dict):
                raise Error(400, f"{where}: expected an object")
            if not isinstance(one.get("name"), str):
                raise Error(400, f"{where}: " + ("expected a string" if "name" in one else "there is no name"))
            if self._signature and one["name"] not in self._signature.outputs:
                raise Error(400, f'the model has no output "{one["name"]}"')
            if one["name"] in wanted:
                raise Error(400, f'output "{one["name"]}" stands there twice')
            wanted[one["name"]] = self._flag(self._object(where, one.get("parameters")), "binary_data", self._binary)
        return wanted

    def _input(self, index: int, one: Any) -> Tensor:
        where = f"inputs[{index}]"
        if not isinstance(one, dict):
            raise Error(400, f"{where}: expected an object")
        for part in ("name", "shape", "datatype"):
            if part not in one:
                raise Error(400, f"{where}: there is no {part}")
            if not isinstance(one["name"], str):
                raise Error(400, f"{where}: expected a string")
            where = f'input "{one["name"]}"'
        name, shape, datatype = one["name"], one["shape"], one["datatype"]
        if not isinstance(shape, list) or not all(type(size) is int and 0 <= size < 1 << 63 for size in shape):
            raise Error(400, f"{where}: expected shape: a list of integers of at least 0")
        if len(shape) > RANK_MAX:
            raise Error(400, f"{where}: its shape has more than {RANK_MAX} dimensions")
        if not isinstance(datatype, str):
            raise Error(400, f"{where}: expected datatype: a string")
        if datatype not in CODES:
            raise Error(400, f"{where}: there is no datatype {datatype[:40]}")
        if name in self.inputs:
            raise Error(400, f"{where} stands there twice")
        self._check(name, datatype, shape)
        size = self._object(where, one.get("parameters")).get("binary_data_size")
        if size is not None and (type(size) is not int or size < 0):
            raise Error(400, f"{where}: binary_data_size is not a number of bytes")
        if (size is None) == ("data" not in one):
            raise Error(400, f"{where}: there is " + ("data and binary_data_size, and only one can be" if "data" in one
                                                      else "no data, and no binary_data_size"))
        if size is None:
            return Tensor(name, datatype, shape, self._json_data(name, datatype, shape, one["data"]))
        return Tensor(name, datatype, shape, self._binary_data(name, datatype, shape, size))

    def _check(self, name: str, datatype: str, shape: Sequence[int]) -> None:
        """Whether it is what the signature says."""
        if not self._signature:
            return
        spec = self._signature.inputs.get(name)
        if not spec:
            first = next(iter(self._signature.inputs), "")
            raise Error(400, f'the model has no input "{name}"; its first is "{first}"')
        if spec.datatype != datatype:
            raise Error(400, f'input "{name}": expected datatype {spec.datatype}, got {datatype}')
        if not _fits(spec, shape):
            raise Error(400, f'input "{name}": expected shape {_shape_text(spec.shape)}, got {_shape_text(shape)}')

    @staticmethod
    def _json_data(name: str, datatype: str, shape: Sequence[int], data: Any) -> Any:
        try:
            return _elements(datatype, _flatten(name, data, shape))
        except _NotOfType as wrong:
            raise Error(400, f'input "{name}": element {wrong.index} is not of datatype {datatype}: '
                        + json.dumps(wrong.value)[:40]) from None

    def _binary_data(self, name: str, datatype: str, shape: Sequence[int], size: int) -> Any:
        if size > len(self._tail):
            raise Error(400, f'input "{name}": binary_data_size is {size}, and {len(self._tail)} bytes are left of the body')
        data, self._tail = self._tail[:size], self._tail[size:]
        count = _count(shape)
        if datatype == "BYTES":
            return self._binary_strings(name, count, data)
        if size != count * SIZES[datatype]:
            raise Error(400, f'input "{name}": shape {_shape_text(shape)} of datatype {datatype} has '
                             f"{count * SIZES[datatype]} bytes, binary_data_size is {size}")
        return _from_bytes(datatype, data)

    @staticmethod
    def _binary_strings(name: str, count: int, data: memoryview) -> List[bytes]:
        if count > len(data) // 4:
            raise Error(400, f'input "{name}": {len(data)} bytes of binary data cannot hold {count} elements')
        found, at = [], 0
        for index in range(count):
            length = struct.unpack_from("<I", data, at)[0] if len(data) - at >= 4 else len(data)
            if length > len(data) - at - 4:
                raise Error(400, f'input "{name}": element {index} runs past the end of its binary data')
            found.append(bytes(data[at + 4:at + 4 + length]))
            at += 4 + length
        if at < len(data):
            raise Error(400, f'input "{name}": {len(data) - at} bytes of its binary data are left behind the last element')
        return found

    # ---- the answer ----

    def _output(self, name: str, value: Any) -> Tensor:
        """A value as a tensor: what is not one has the signature's datatype, or that of its numpy array."""
        spec = self._signature.outputs.get(name) if self._signature else None
        if self._signature and not spec:
            raise Error(500, f'the worker gave output "{name}", which it never declared')
        if isinstance(value, Tensor):
            code = CODES[value.datatype]
            data = array.array(code, value.data) if code and isinstance(value.data, list) else value.data
            tensor = Tensor(name, value.datatype, value.shape, data)
        elif hasattr(value, "dtype"):
            tensor = self._numpy_output(name, value, spec)
        elif spec:
            try:
                shape, flat = _flatten_any(value)
                tensor = Tensor(name, spec.datatype, shape, _elements(spec.datatype, flat))
            except ValueError as error:
                raise Error(500, f'output "{name}": {error}') from None
            except _NotOfType as wrong:
                raise Error(500, f'output "{name}": element {wrong.index} is not of datatype {spec.datatype}: '
                            f"{wrong.value!r:.40}") from None
        else:
            raise Error(500, f'output "{name}": without a signature, give a Tensor or a numpy array')
        if spec and spec.datatype != tensor.datatype:
            raise Error(500, f'the worker declared output "{name}" as {spec.datatype} and gave {tensor.datatype}')
        if spec and not _fits(spec, tensor.shape):
            raise Error(500, f'the worker declared output "{name}" as of shape {_shape_text(spec.shape)} and gave '
                        + _shape_text(tensor.shape))
        if _count(tensor.shape) != len(tensor.data):
            raise Error(500, f'the worker gave output "{name}" without a sound shape')
        return tensor

    @staticmethod
    def _numpy_output(name: str, value: Any, spec: Optional[TensorSpec]) -> Tensor:
        import numpy
        made = numpy.asarray(value)
        known = {kind: datatype for datatype, kind in NUMPY.items() if datatype not in ("BF16", "BYTES")}
        datatype = spec.datatype if spec else "BYTES" if made.dtype.kind in "SUO" else known.get(made.dtype.name, "")
        if not datatype or (made.dtype.kind in "SUO") != (datatype == "BYTES"):
            raise Error(500, f'output "{name}": numpy\'s {made.dtype} is not of datatype {datatype or "that there is"}')
        if datatype == "BYTES":
            return Tensor(name, datatype, made.shape, [_element("BYTES", one) for one in made.ravel().tolist()])
        if not numpy.can_cast(made.dtype, NUMPY[datatype], "same_kind"):
            raise Error(500, f'output "{name}": numpy\'s {made.dtype} is not of datatype {datatype}')
        flat = numpy.ascontiguousarray(made.astype(NUMPY[datatype], copy=False)).ravel()
        if datatype in ("BOOL", "FP16", "BF16"):
            return Tensor(name, datatype, made.shape, flat.tolist())
        data: Any = array.array(CODES[datatype])
        data.frombytes(flat.tobytes())
        return Tensor(name, datatype, made.shape, data)

    @staticmethod
    def _json_output(tensor: Tensor) -> List[Any]:
        flat: List[Any] = tensor.data if isinstance(tensor.data, list) else tensor.data.tolist()
        for index, one in enumerate(flat):
            if isinstance(one, float) and not math.isfinite(one):
                raise Error(500, f'output "{tensor.name}": element {index} is not a finite number, which JSON cannot say; '
                                 "ask for it with binary_data")
        if tensor.datatype != "BYTES":
            return list(map(bool, flat)) if tensor.datatype == "BOOL" else flat
        try:
            return [one.decode() for one in flat]
        except UnicodeDecodeError:
            index = next(i for i, one in enumerate(flat) if one.decode(errors="replace").encode() != one)
            raise Error(500, f'output "{tensor.name}": element {index} is not UTF-8, which JSON cannot say; '
                             "ask for it with binary_data") from None

    def answer(self, outputs: Dict[str, Any], parameters: Optional[Dict[str, Any]] = None) -> Reply:
        """What infer() returns.  Each output is a Tensor, a numpy array, or (with a signature) lists of its elements; JSON or
        binary as the client wants it, and only what it wants."""
        made = {name: self._output(name, value) for name, value in outputs.items()}
        told: Dict[str, Any] = {"model_name": os.environ.get("HASUP_MODEL", "")}
        version = self._request.headers.get("model-version")
        if version is not None:
            told["model_version"] = version
        if self.id is not None:
            told["id"] = self.id
        if parameters:
            told["parameters"] = parameters
        told["outputs"], tails = [], []
        for name, binary in (self._wanted or dict.fromkeys(made, self._binary)).items():
            if name not in made:
                raise Error(500 if self._signature else 400, f'the worker gave no output "{name}"')
            tensor = made[name]
            one: Dict[str, Any] = {"name": name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
            if binary:
                tails.append(_to_bytes(tensor.datatype, tensor.data))
                one["parameters"] = {"binary_data_size": len(tails[-1])}
            else:
                one["data"] = self._json_output(tensor)
            told["outputs"].append(one)
        text = json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
        if not tails:
            return Reply(text, content_type="application/json")
        return Reply(b"".join([text, *tails]), content_type="application/octet-stream",
                     headers={"inference-header-content-length": str(len(text))})
