"""A peer of vit.h, as a server for tests/bench/bench.c: a process of its own for
each, so that no thread of one is in another's way.

    python peers.py PEER    PEER: eager, compile, onnxruntime, openvino, onnxruntime-int8

One command per line on stdin, one line of answer on stdout ("ok ..." or
"error ..."), so that the driver can take turns: a round of vit.h, a round of
PyTorch, a round of ONNX Runtime, and again.

  hello                      ok NAME VERSION (INSTRUCTIONS); error: what is missing
  open JOB key=value ...     builds and warms up; ok PARAMETERS
  run SECONDS THREADS        ok SECONDS_PER_STEP STEPS
  close                      forgets the model
  quit

JOB is train or infer. The keys are the fields of vit_config, and: batch, threads
(all counts that it will be run with: 1,2), parameters, and for training optimizer
(adam, adamw) and rate. A model whose number of parameters is not `parameters` is
refused: another model's speed would say nothing.

ONNX Runtime and OpenVINO run the PyTorch model from an ONNX file, which another
process writes (python peers.py --export FILE key=value ...); int8 is ONNX Runtime's
dynamic quantisation: weights of every MatMul, once for each tensor, to signed bytes.
"""
import importlib.util
import math
import os
import subprocess
import sys
import time
import zlib

# An idle peer must not keep the cores busy while another is measured. Threads
# without work wait actively for a moment: Intel's and LLVM's OpenMP 200 ms,
# unless told otherwise, GNU's some milliseconds. settle() waits for the end of it.
os.environ.setdefault("KMP_BLOCKTIME", "5")
WARM_SECONDS = 0.3
LABEL, NEEDS = 0, 1
PEERS = {
    "eager": ("PyTorch", "torch"),
    "compile": ("PyTorch", "torch"),
    "onnxruntime": ("ONNX Runtime", "onnxruntime torch onnx onnxscript"),
    "openvino": ("OpenVINO", "openvino torch onnx onnxscript"),
    "onnxruntime-int8": ("ONNX Runtime", "onnxruntime torch onnx onnxscript"),
}

ONNX_DIR = os.path.join("out", "bench")


class Refused(Exception):
    """A sentence for the driver."""


def import_torch():
    """Not at the top: ONNX Runtime and OpenVINO shall run without it beside them."""
    global torch, nn, F
    import torch
    from torch import nn
    from torch.nn import functional as F


# ---- the model ----------------------------------------------------------------

# What build_model() uses, and what changes nothing here.
KNOWN = set("""image_height image_width channels patch_height patch_width classes width
depth heads head_dim mlp_width positions qkv_bias final_norm norm_eps gelu softmax_before_loss init
zero_head batch threads parameters optimizer rate""".split())
# What build_model() does not offer: every other value is refused.
FIXED = {
    "class_token": 1, "local_mask": 0, "norm": 0, "mlp_last_gelu": 0, "pool": 0,
    "pos_drop": 0, "attn_drop": 0, "proj_drop": 0, "hidden_drop": 0,
    "mlp_drop": 0, "block_drop": 0, "drop_path": 0,
}


def sinusoid(tokens, width):
    """Vaswani et al. 2017, section 3.5: even columns sine, odd ones cosine."""
    column = torch.arange(width)
    angle = torch.arange(tokens)[:, None] / 10000 ** ((column - column % 2) / width)
    return torch.where(column % 2 == 0, angle.sin(), angle.cos())


def define_model():
    """The classes; inside a function because nn comes later."""

    class Block(nn.Module):
        def __init__(self, c):
            super().__init__()
            width, inner = int(c["width"]), int(c["heads"] * c["head_dim"])
            hidden, eps = int(c["mlp_width"]), c["norm_eps"]
            self.heads, self.head_dim = int(c["heads"]), int(c["head_dim"])
            self.approximate = "tanh" if c["gelu"] else "none"
            self.norm1 = nn.LayerNorm(width, eps=eps)
            self.qkv = nn.Linear(width, 3 * inner, bias=bool(c["qkv_bias"]))
            self.proj = nn.Linear(inner, width)
            self.norm2 = nn.LayerNorm(width, eps=eps)
            self.fc1 = nn.Linear(width, hidden)
            self.fc2 = nn.Linear(hidden, width)

        def attention(self, x):
            batch, tokens, _ = x.shape
            qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, self.head_dim)
            q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
            x = F.scaled_dot_product_attention(q, k, v)
            return self.proj(x.transpose(1, 2).reshape(batch, tokens, -1))

        def forward(self, x):
            x = x + self.attention(self.norm1(x))
            hidden = F.gelu(self.fc1(self.norm2(x)), approximate=self.approximate)
            return x + self.fc2(hidden)

    class VisionTransformer(nn.Module):
        def __init__(self, c):
            super().__init__()
            width = int(c["width"])
            patch = (int(c["patch_height"]), int(c["patch_width"]))
            tokens = 1 + int(c["image_height"] // patch[0] * (c["image_width"] // patch[1]))
            self.patch = nn.Conv2d(int(c["channels"]), width, patch, stride=patch)
            self.cls_token = nn.Parameter(torch.randn(1, 1, width))
            if c["positions"] == 2:
                self.pos = nn.Parameter(0.02 * torch.randn(1, tokens, width))
            else:
                self.register_buffer("pos", sinusoid(tokens, width)[None])
            self.blocks = nn.ModuleList(Block(c) for _ in range(int(c["depth"])))
            final = bool(c["final_norm"])
            self.norm = nn.LayerNorm(width, eps=c["norm_eps"]) if final else nn.Identity()
            self.head = nn.Linear(width, int(c["classes"]))
            self.softmax = bool(c["softmax_before_loss"])

        def forward(self, images):
            x = self.patch(images).flatten(2).transpose(1, 2)
            x = torch.cat((self.cls_token.expand(x.shape[0], -1, -1), x), dim=1) + self.pos
            for block in self.blocks:
                x = block(x)
            logits = self.head(self.norm(x[:, 0]))
            return logits.softmax(-1) if self.softmax else logits

    return VisionTransformer


def build_model(c):
    for name, value in c.items():
        if name not in KNOWN and value != FIXED.get(name, 0):
            raise Refused(f"peers.py builds no model with {name} = {value:g}")
    if c["positions"] not in (1, 2):
        raise Refused("peers.py knows sinusoid and learned positions only")
    torch.manual_seed(1)
    model = define_model()(c)
    count = sum(p.numel() for p in model.parameters())
    if count != int(c["parameters"]):
        raise Refused(f"the PyTorch model has {count} parameters, vit.h has "
                      f"{int(c['parameters'])}: they are not the same model")
    return model


def image_shape(c):
    return [int(c[k]) for k in ("batch", "channels", "image_height", "image_width")]


def random_images(c):
    return torch.randn(image_shape(c), generator=torch.Generator().manual_seed(2))


# ---- the peers: each opener gives, for a number of threads, what does one step ------

def settle():
    for _ in range(60):
        before = time.process_time()  # of all threads
        time.sleep(0.005)
        if time.process_time() - before < 0.001:
            return


def time_steps(step, seconds):
    """Steps until the time is over, at least one: seconds per step, steps."""
    steps, start = 0, time.perf_counter()
    while True:
        step()
        steps += 1
        spent = time.perf_counter() - start
        if spent >= seconds:
            return spent / steps, steps


def training_step(model, c, optimizer):
    images = random_images(c)
    labels = torch.arange(len(images)) % int(c["classes"])

    def step():
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()

    return step


def compile_model(model, **options):
    """For these shapes. With dynamic_threads the machine code for one number of
    threads also serves another: half the time to compile, the same speed."""
    import torch._inductor.config as inductor
    inductor.cpp.dynamic_threads = True
    inductor.freezing = options.get("freezing", False)
    return torch.compile(model, dynamic=False, fullgraph=True)


def open_training(c, compiled):
    """One step of the optimiser; of its two fast forms the faster one."""
    make = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[c["optimizer"]]
    model = build_model(c)
    net = compile_model(model) if compiled else model
    choices = []
    for form in ({"fused": True}, {"foreach": True}):
        step = training_step(net, c, make(model.parameters(), lr=c["rate"], **form))
        time_steps(step, WARM_SECONDS)
        choices.append((time_steps(step, WARM_SECONDS)[0], len(choices), step))
    return min(choices)[2]


def open_inference(c, compiled):
    model, images = build_model(c).eval(), random_images(c)
    if compiled:
        model = compile_model(model, freezing=True)  # weights are packed once

    def step():
        with torch.inference_mode():
            return model(images)

    return step


def open_torch(job, c, compiled):
    torch.set_num_threads(max(c["threads"]))
    step = (open_training if job == "train" else open_inference)(c, compiled)

    def step_with(threads):
        torch.set_num_threads(threads)
        return step

    return step_with


def export(path, *words):
    """The model as an ONNX file; its batch is a name."""
    import_torch()
    c = parse(words)
    torch.onnx.export(build_model(c).eval(), (random_images({**c, "batch": 2}),), path + ".tmp",
                      dynamo=True, input_names=["images"], external_data=False,
                      dynamic_shapes=({0: torch.export.Dim("batch")},))
    os.replace(path + ".tmp", path)


def onnx_file(c):
    """Written once for each architecture."""
    words = sorted(f"{k}={v:.9g}" for k, v in c.items() if k not in ("batch", "threads"))
    path = os.path.join(ONNX_DIR, "vit-%d-%08x.onnx" % (
        c["parameters"], zlib.crc32(" ".join(words).encode())))
    if not os.path.exists(path):
        os.makedirs(ONNX_DIR, exist_ok=True)
        command = [sys.executable, __file__, "--export", path, *words, "batch=2", "threads=1"]
        if subprocess.run(command, stdin=subprocess.DEVNULL).returncode:
            raise Refused("the export to ONNX failed; the log says why")
    return path


def int8_file(c):
    path = onnx_file(c)
    small = path[:-len("onnx")] + "int8.onnx"
    if not os.path.exists(small):
        from onnxruntime.quantization import QuantType, quantize_dynamic
        quantize_dynamic(path, small + ".tmp", weight_type=QuantType.QInt8,
                         op_types_to_quantize=["MatMul"])
        os.replace(small + ".tmp", small)
    return small


def open_onnxruntime(c, path):
    import numpy
    import onnxruntime
    images = {"images": numpy.random.default_rng(2).standard_normal(image_shape(c), numpy.float32)}

    def session(threads):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_free_dimension_override_by_name("batch", int(c["batch"]))
        # Threads wait actively during a run, where it helps, and not after it.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    sessions = {n: session(n) for n in c["threads"]}
    return lambda threads: lambda: sessions[threads].run(None, images)


def open_openvino(c):
    import numpy
    import openvino
    images = numpy.random.default_rng(2).standard_normal(image_shape(c), numpy.float32)
    core = openvino.Core()
    model = core.read_model(onnx_file(c))
    model.reshape(list(images.shape))

    def request(threads):
        # It would take bfloat16 of itself where the CPU has it.
        return core.compile_model(model, "CPU", {
            "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "f32"}).create_infer_request()

    requests = {n: request(n) for n in c["threads"]}
    return lambda threads: lambda: requests[threads].infer([images], share_inputs=True)


def open_peer(peer, job, c):
    """Steps that have been warmed up: compiled, caches filled."""
    if peer in ("eager", "compile"):
        step_with = open_torch(job, c, peer == "compile")
    elif job != "infer":
        raise Refused(f"{PEERS[peer][LABEL]} does not train")
    elif peer == "openvino":
        step_with = open_openvino(c)
    else:
        step_with = open_onnxruntime(c, (int8_file if peer.endswith("int8") else onnx_file)(c))
    for threads in c["threads"]:  # each count may be compiled for itself
        for _ in range(3):
            if time_steps(step_with(threads), 0)[0] > WARM_SECONDS:
                break
    return step_with


# ---- the server ---------------------------------------------------------------

def parse(words):
    c = dict(word.split("=", 1) for word in words)
    texts = ("threads", "optimizer")
    c.update({key: float(value) for key, value in c.items() if key not in texts})
    c["threads"] = [int(n) for n in c["threads"].split(",")]
    return c


def hello(peer):
    """Its name, its version, and the instructions that it takes."""
    label, needs = PEERS[peer]
    missing = [name for name in needs.split() if not importlib.util.find_spec(name)]
    if missing:
        raise Refused(f"{label} is not measured: pip install {' '.join(missing)}")
    if label == "PyTorch":
        import_torch()
        return f"{label} {torch.__version__} ({torch.backends.cpu.get_cpu_capability()})"
    version = importlib.import_module(needs.split()[0]).__version__.split("-")[0]
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA") if peer == "openvino" else None
    return f"{label} {version} ({limit or 'all that the CPU has'})"


class Server:
    def __init__(self, peer):
        self.peer, self.step_with = peer, None

    def hello(self):
        return hello(self.peer)

    def open(self, job, *words):
        hello(self.peer)  # imports what it needs
        c = parse(words)
        self.step_with = open_peer(self.peer, job, c)
        settle()
        return str(int(c["parameters"]))

    def run(self, seconds, threads):
        spent, steps = time_steps(self.step_with(int(threads)), float(seconds))
        settle()
        return f"{spent:.9g} {steps}"

    def close(self):
        self.step_with = None
        if "torch._dynamo" in sys.modules:
            torch._dynamo.reset()  # or its limit of recompilations is reached
        return ""

    def answer(self, line):
        name, *words = line.split()
        if name not in ("hello", "open", "run", "close"):
            return f"error unknown command {name}"
        try:
            return f"ok {getattr(self, name)(*words)}".rstrip()
        except Exception as e:  # whatever it was: the driver goes on without it
            text = " ".join(f"{type(e).__name__}: {e}".split())
            if "CxxCompiler" in text:
                return "error torch.compile finds no C++ compiler: install g++"
            return "error " + (str(e) if isinstance(e, Refused) else text[:150])


def main():
    if sys.argv[1] == "--export":
        return export(*sys.argv[2:])
    # The answers have the real stdout; what a library prints goes to stderr.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    server = Server(sys.argv[1])
    for line in sys.stdin:
        if line.strip() == "quit":
            break
        if line.strip():
            answers.write(server.answer(line) + "\n")


if __name__ == "__main__":
    main()
