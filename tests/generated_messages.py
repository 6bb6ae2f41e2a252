"""Messages of both protocols that hypothesis draws: most are wrong, some are only odd, a few are right."""

import base64
import gzip
import json
from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st
from serving import png, random_images

from export import serving_protocol

BODY_BYTES = 2**18
"""What the server takes at most."""
IMAGES = random_images(3)
PREDICT, RAW = "/tensorflow.serving.PredictionService/Predict", "RAW"


class Message(NamedTuple):
    """What is sent: by REST if `verb` is one of HTTP, by gRPC if it is empty, as it stands to the REST port if it is RAW.

    Attributes:
        pixel: of the image that a right message asks about.
    """

    verb: str
    path: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    pixel: int | None = None


NAMES = ["tiny", "tiny", "tiny", "", "other", "TINY", "tiny/", "\u0663", "a" * 5000, "\0", "%00", "..", "tiny\n"]
SIGNATURES = ["", "serving_default", "image_bytes", "logits", "scaled_sum", "echo", "none", "__saved_model_init_op", "s" * 3000]
INPUTS = ["images", "image_bytes", "a", "b", "text", "x", "", "Images", "i" * 3000, "\u202e"]
NUMBERS = [0, 1, -1, 2, 3, 4, 5, 7, 16, 255, 256, 300, 1024, 1025, 2**31 - 1, 2**31, 2**32, 2**62, 2**63 - 1, -(2**63)]
PNG = png(IMAGES[0])
FILES = [
    PNG,
    PNG[:20],
    PNG[:16] + b"\x7f\xff\xff\xff\x7f\xff\xff\xff" + PNG[24:],
    b"GIF89a\x04\0\x04\0\xf7\0\0" + bytes(range(256)) * 3 + b",\0\0\0\0\x04\0\x04\0\0\x08\xff\xff;",
    b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\x02\x02D\x01\0;",
    b"BM" + bytes(8) + b"\x36\0\0\0\x28\0\0\0\x04\0\0\0\x04\0\0\0\1\0\x18\0" + bytes(24 + 48),
    b"BM" + bytes(8) + b"\x36\0\0\0\x28\0\0\0\xff\xff\xff\x7f\xff\xff\xff\x7f\1\0\x20\0" + bytes(24),
    b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0\xff\xc0\0\x0b\x08\xff\xff\xff\xff\1\1\x11\0\xff\xd9",
    b"RIFF\x24\0\0\0WEBPVP8 \x18\0\0\0\x30\1\0\x9d\1\x2a\xff\x3f\xff\x3f" + bytes(16),
    b"",
    b"hello",
]
numbers = st.one_of(st.sampled_from(NUMBERS), st.integers(-(2**63), 2**63 - 1))
words = st.one_of(st.sampled_from(INPUTS + SIGNATURES), st.text(max_size=10))


@st.composite
def broken(draw, contents):
    """Bytes after a few accidents, or none."""
    content = draw(contents)
    for _ in range(draw(st.sampled_from([0, 0, 1, 1, 2, 3]))):
        at, other = (draw(st.integers(0, len(content))) for _ in range(2))
        accident = draw(st.integers(0, 4))
        if accident == 0:
            content = content[:at]
        elif accident == 1:
            content = content[:at] + draw(st.binary(min_size=1, max_size=8)) + content[at:]
        elif accident == 2:
            content = content[:at] + content[max(at, other) :]
        elif accident == 3 and at < len(content):
            content = content[:at] + bytes([content[at] ^ 1 << draw(st.integers(0, 7))]) + content[at + 1 :]
        else:
            content = content[:at] + content[min(at, other) : max(at, other)] * 2 + content[at:]
    return content


files = broken(st.sampled_from(FILES))
RIGHT_JSON = {
    "images": IMAGES.tolist(),
    "image_bytes": [{"b64": base64.b64encode(PNG).decode()}] * 2,
    "a": [[1.5, 2.0]],
    "b": 3.0,
    "text": ["a", "\u00e9"],
    "x": [1e300, -0.0],
}
scalars = st.one_of(
    st.sampled_from([None, True, False, "", "NaN", 0.5, 1e308, -0.0, 10**30, float("nan"), float("inf")]),
    numbers,
    words,
    st.builds(lambda content: {"b64": base64.b64encode(content).decode()}, files),
    st.builds(lambda text: {"b64": text}, words),
)
odd_json = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(words, inner, max_size=3)),
    max_leaves=8,
)


@st.composite
def changed_json(draw):
    """A right value of an input with something odd in it."""
    value = json.loads(json.dumps(draw(st.sampled_from(list(RIGHT_JSON.values())))))
    place = value
    while isinstance(place, list) and place:
        at = draw(st.integers(0, len(place) - 1))
        if not isinstance(place[at], list) or draw(st.integers(0, 3)) == 0:
            place[at] = draw(st.one_of(odd_json, st.just([])))
            break
        place = place[at]
    return value


values = st.one_of(st.sampled_from(list(RIGHT_JSON.values())), changed_json(), odd_json)
named = st.dictionaries(st.one_of(st.sampled_from(INPUTS), words), values, max_size=3)
bodies = st.fixed_dictionaries(
    {},
    optional={
        "instances": st.one_of(values, st.lists(named, max_size=3)),
        "inputs": st.one_of(values, named),
        "signature_name": st.one_of(st.sampled_from(SIGNATURES), scalars),
        "x": odd_json,
    },
)
long_bodies = st.builds(
    lambda start, part, count: (start + part * count)[:BODY_BYTES],
    st.sampled_from([b'{"instances": [', b'{"inputs": {"images": [', b"", b'{"signature_name": "echo", "instances": [']),
    st.sampled_from(
        [b"[],", b"[", b"1,", b"1", b'"",', b"[[[[]]]],", b'{"":0},', b'{"b64":""},', b" ", b"\xff", b"-", b"1e9,"]
    ),
    st.integers(0, BODY_BYTES),
)
contents = st.one_of(
    broken(bodies.map(lambda body: json.dumps(body).encode())),
    bodies.map(lambda body: json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass")),
    broken(st.just(json.dumps({"instances": RIGHT_JSON["images"]}).encode())),
    st.binary(max_size=30),
)
paths = st.one_of(
    st.just("/v1/models/tiny:predict"),
    st.builds(
        "/v1/models/{}{}{}".format,
        st.sampled_from(["tiny", "tiny", "other", "", "%00", "%ff", "a" * 2000, "tiny%2F", "%"]),
        st.sampled_from(["", "", "/versions/1", "/versions/0", "/versions/" + "9" * 3000, "/versions/-1", "/labels/x"]),
        st.sampled_from([":predict", ":predict", "", "/metadata", ":classify", ":regress", ":", "//", "?a=b", ":PREDICT"]),
    ),
    st.sampled_from(["/", "/healthz", "/readyz", "/metrics", "/v1/", "//", "/%", "/v1/models", "*"]),
)
headers = st.lists(
    st.sampled_from(
        [
            ("Content-Type", "text/plain; charset=none"),
            ("Content-Encoding", "gzip"),
            ("Content-Encoding", "br"),
            ("Expect", "100-continue"),
            ("Expect", "x"),
            ("Accept-Encoding", "gzip"),
            ("X", "y" * 5000),
            ("Connection", "Upgrade"),
            ("Upgrade", "h2c"),
        ]
    ),
    max_size=2,
    unique=True,
).map(tuple)
zipped = st.builds(
    lambda content: Message("POST", "/v1/models/tiny:predict", content, (("Content-Encoding", "gzip"),)),
    broken(st.one_of(contents, long_bodies).map(lambda content: gzip.compress(content, 1))),
)
verbs = st.sampled_from(["POST", "POST", "POST", "GET", "PUT", "DELETE", "HEAD", "OPTIONS", "X" * 50])
posted = st.builds(lambda body: Message("POST", "/v1/models/tiny:predict", body), contents)
asked = st.tuples(verbs, paths, contents, headers).map(lambda parts: Message(*parts))
rest = st.one_of(
    posted,
    posted,
    posted,
    asked,
    asked,
    zipped,
)
raw = st.builds(
    lambda content: Message(RAW, "", content),
    broken(
        st.sampled_from(
            [
                b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
                b"POST /v1/models/tiny:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
                b"POST /v1/models/tiny:predict HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
                b"GET /v1/models/tiny HTTP/1.0\r\n\r\n" * 3,
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0",
            ]
        )
    ),
)

TENSORS = {
    "images": IMAGES,
    "image_bytes": np.array([PNG, PNG], object),
    "a": np.ones((2, 2), np.float32),
    "b": np.array(2, np.float32),
    "text": np.array([b"a", b"\xff\0"], object),
    "x": np.array([0.5, np.nan]),
}
SIGNATURE_INPUTS = {
    "": ["images"],
    "image_bytes": ["image_bytes"],
    "logits": ["images"],
    "scaled_sum": ["a", "b"],
    "echo": ["text", "x"],
}
FIELDS = {
    "int_val": st.one_of(st.sampled_from([-5, 0, 255, 256, 300]), st.integers(-(2**31), 2**31 - 1)),
    "int64_val": numbers,
    "float_val": st.floats(width=32),
    "double_val": st.floats(),
    "half_val": st.sampled_from([0, -1, 70_000, 15_360]),
    "string_val": files,
    "bool_val": st.booleans(),
    "uint64_val": st.integers(0, 2**64 - 1),
    "scomplex_val": st.floats(width=32),
}
shapes = st.one_of(
    st.lists(st.one_of(st.sampled_from([1, 2, 3, 4]), numbers), max_size=6),
    st.builds(lambda side, count: [1] + [side] * count, numbers, st.sampled_from([3, 40, 3000, 20_000])),
    st.sampled_from([[1, 4, 4, 1], [2, 4, 4, 1], [1024, 4, 4, 1], [2], [0], [1], []]),
)


@st.composite
def tensors(draw, name):
    """A TensorProto, right but for something."""
    tensor = serving_protocol.TensorProto()
    serving_protocol.set_tensor(tensor, TENSORS[name])
    for change in draw(st.lists(st.integers(0, 5), max_size=3)):
        if change == 0:
            tensor.dtype = draw(st.one_of(st.integers(0, 35), st.sampled_from([101, 999, -1, 2**31 - 1])))
        elif change == 1:
            del tensor.tensor_shape.dim[:]
            for side in draw(shapes):
                tensor.tensor_shape.dim.add(size=side, name=draw(st.sampled_from(["", "", "", "side"])))
        elif change == 2:
            tensor.tensor_shape.unknown_rank = draw(st.booleans())
        elif change == 3:
            tensor.tensor_content = draw(st.one_of(st.just(b""), st.binary(max_size=20), st.just(bytes(16))))
        elif change == 4:
            field = draw(st.sampled_from(list(FIELDS)))
            drawn = draw(st.lists(FIELDS[field], max_size=4)) * draw(st.sampled_from([1, 1, 4, 5000]))
            getattr(tensor, field).extend(drawn)
        else:
            tensor.ClearField("string_val")
    return tensor


@st.composite
def specs(draw, spec):
    """A ModelSpec, filled into `spec`."""
    spec.name = draw(st.sampled_from(NAMES))
    version = draw(st.sampled_from([None, None, None, "number", "label"]))
    if version == "number":
        spec.version.value = draw(numbers)
    elif version == "label":
        spec.version_label = draw(words)


@st.composite
def predict_requests(draw):
    request = serving_protocol.PredictRequest()
    draw(specs(request.model_spec))
    signature = draw(st.sampled_from([*SIGNATURE_INPUTS, *SIGNATURE_INPUTS, *SIGNATURES]))
    request.model_spec.signature_name = signature
    for name in SIGNATURE_INPUTS.get(signature, ["images"]):
        if draw(st.integers(0, 9)):
            request.inputs[name].MergeFrom(draw(tensors(name)))
    if draw(st.integers(0, 4)) == 0:
        request.inputs[draw(words)].MergeFrom(draw(tensors(draw(st.sampled_from(list(TENSORS))))))
    request.output_filter.extend(
        draw(st.lists(st.sampled_from(["probabilities", "class_name", "logits", "y", ""]), max_size=2))
        * draw(st.sampled_from([1, 1, 1, 1, 2, 1000]))
    )
    return request.SerializeToString()


@st.composite
def other_requests(draw):
    """Of a model's metadata or state."""
    name = draw(st.sampled_from(["GetModelMetadata", "GetModelStatus"]))
    service, request_class, _ = serving_protocol.METHODS[name]
    request = request_class()
    draw(specs(request.model_spec))
    if name == "GetModelMetadata":
        fields = draw(st.lists(st.sampled_from(["signature_def", "signature_def", "", "x" * 3000]), max_size=2))
        request.metadata_field.extend(fields * draw(st.sampled_from([1, 1, 1, 80])))
    return Message("", f"/{service}/{name}", draw(broken(st.just(request.SerializeToString()))))


SPEC = b"\x0a\x06\x0a\x04tiny"
long_requests = st.builds(
    lambda path, start, part, count: Message("", path, (start + part * count)[: BODY_BYTES - 10]),
    st.sampled_from([PREDICT, PREDICT, "/tensorflow.serving.PredictionService/GetModelMetadata"]),
    st.sampled_from([SPEC, b"", SPEC + b"\x12\x90\x4e\x0a\x06images\x12\x85\x4e", SPEC + b"\x12\xff\xff\x7f\x0a\x06images"]),
    st.sampled_from(
        [b"\x12\0", b"\x1a\0", b"\x0a\0", b"\x78\1", b"\x7b", b"\x12\2\x0a\0", b"\x42\0", b"\x38\1", b"\0", b"\xff"]
    ),
    st.integers(0, BODY_BYTES),
)
METHODS = [
    "/tensorflow.serving.PredictionService/Classify",
    "/tensorflow.serving.ModelService/HandleReloadConfigRequest",
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/List",
    "/none/none",
    "/",
]
predictions = st.builds(lambda body: Message("", PREDICT, body), broken(predict_requests()))
grpc_messages = st.one_of(
    predictions,
    predictions,
    predictions,
    other_requests(),
    long_requests,
    st.builds(lambda path, body: Message("", path, body), st.sampled_from(METHODS), st.binary(max_size=30)),
)


def right(protocol: str, value: int) -> Message:
    """A right request, of an image of one value."""
    image = np.full((1, *IMAGES.shape[1:]), value, np.uint8)
    if protocol == "REST":
        return Message("POST", "/v1/models/tiny:predict", json.dumps({"instances": image.tolist()}).encode(), pixel=value)
    request = serving_protocol.PredictRequest()
    request.model_spec.name = "tiny"
    serving_protocol.set_tensor(request.inputs["images"], image)
    return Message("", PREDICT, request.SerializeToString(), pixel=value)


long_posts = st.builds(lambda body: Message("POST", "/v1/models/tiny:predict", body), long_bodies)
rights = st.builds(right, st.sampled_from(["REST", "gRPC"]), st.integers(0, 255))
messages = st.one_of(*[rest] * 7, *[grpc_messages] * 8, raw, long_posts, rights)
