"""The peers of vit.h, as a server for tests/bench/bench.c.

One command per line on stdin, one line of answer on stdout ("ok ..." or
"error ..."), so that the driver can take turns: a round of vit.h, a round of
PyTorch, a round of ONNX Runtime, and again.

  versions                        ok torch=2.13.0 onnxruntime=1.27.0
  open PEER JOB key=value ...     builds and warms up; ok PARAMETERS
  run PEER SECONDS THREADS        ok SECONDS_PER_STEP STEPS
  close                           forgets every open peer
  quit

PEER is eager, compile or onnxruntime; JOB is train or infer. The keys are the
fields of vit_config, and: batch, threads (all counts that it will be run with:
1,2), parameters, and for training optimizer (adam, adamw) and rate. A model
whose number of parameters is not `parameters` is refused: another model's speed
would say nothing.
"""
import math
import os
import sys
import time
import zlib

# An idle peer must not keep the cores busy while another is measured. Threads
# without work wait actively for a moment: Intel's and LLVM's OpenMP 200 ms,
# unless told otherwise, GNU's some milliseconds. settle() waits for the end of it.
os.environ.setdefault("KMP_BLOCKTIME", "5")
WARM_SECONDS = 0.3

try:
    import torch
    from torch import nn
    from torch.nn import functional as F
except ImportError:
    torch = None
try:
    import onnxruntime
except ImportError:
    onnxruntime = None

ONNX_DIR = os.path.join("out", "bench")


class Refused(Exception):
    """A sentence for the driver."""


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
    """The classes; inside a function because nn may be missing."""

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


def random_images(c):
    shape = [int(c[k]) for k in ("batch", "channels", "image_height", "image_width")]
    return torch.randn(shape, generator=torch.Generator().manual_seed(2))


# ---- the peers: each opener gives a function that does one step ----------------

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


def export(c):
    """The model as an ONNX file, written once; its batch is a name."""
    architecture = repr(sorted((k, v) for k, v in c.items() if k != "batch"))
    name = "vit-%d-%08x.onnx" % (c["parameters"], zlib.crc32(architecture.encode()))
    path = os.path.join(ONNX_DIR, name)
    if not os.path.exists(path):
        os.makedirs(ONNX_DIR, exist_ok=True)
        images = random_images({**c, "batch": 2})
        torch.onnx.export(build_model(c).eval(), (images,), path + ".tmp", dynamo=True,
                          input_names=["images"], external_data=False,
                          dynamic_shapes=({0: torch.export.Dim("batch")},))
        os.replace(path + ".tmp", path)
    return path


def open_onnxruntime(c):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = max(c["threads"])
    options.add_free_dimension_override_by_name("batch", int(c["batch"]))
    # Threads wait actively during a run, where it helps, and not after it.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(export(c), options,
                                           providers=["CPUExecutionProvider"])
    images = {"images": random_images(c).numpy()}
    return lambda: session.run(None, images)


def open_peer(peer, job, c):
    """A step that has been warmed up: compiled, caches filled."""
    if torch is None:
        raise Refused("PyTorch is missing: pip install torch")
    if peer == "onnxruntime" and onnxruntime is None:
        raise Refused("ONNX Runtime is missing: pip install onnxruntime onnx onnxscript")
    torch.set_num_threads(max(c["threads"]))
    if peer == "onnxruntime":
        if job != "infer":
            raise Refused("ONNX Runtime does not train")
        step = open_onnxruntime(c)
    elif job == "train":
        step = open_training(c, peer == "compile")
    else:
        step = open_inference(c, peer == "compile")
    for threads in c["threads"]:  # each count may be compiled for itself
        torch.set_num_threads(threads)
        for _ in range(3):
            step()
    return step


# ---- the server ---------------------------------------------------------------

def parse(words):
    c = dict(word.split("=", 1) for word in words)
    texts = ("threads", "optimizer")
    c.update({key: float(value) for key, value in c.items() if key not in texts})
    c["threads"] = [int(n) for n in c["threads"].split(",")]
    return c


class Server:
    def __init__(self):
        self.steps = {}

    def versions(self):
        found = {"torch": torch, "onnxruntime": onnxruntime}
        return " ".join(f"{k}={m.__version__}" for k, m in found.items() if m)

    def open(self, peer, job, *words):
        c = parse(words)
        self.steps[peer] = open_peer(peer, job, c)
        settle()
        return str(int(c["parameters"]))

    def run(self, peer, seconds, threads):
        torch.set_num_threads(int(threads))
        spent, steps = time_steps(self.steps[peer], float(seconds))
        settle()
        return f"{spent:.9g} {steps}"

    def close(self):
        self.steps.clear()
        if torch is not None and "torch._dynamo" in sys.modules:
            torch._dynamo.reset()  # or its limit of recompilations is reached
        return ""

    def answer(self, line):
        name, *words = line.split()
        if name not in ("versions", "open", "run", "close"):
            return f"error unknown command {name}"
        try:
            return f"ok {getattr(self, name)(*words)}".rstrip()
        except Exception as e:  # whatever it was: the driver goes on without it
            text = " ".join(f"{type(e).__name__}: {e}".split())
            if "CxxCompiler" in text:
                return "error torch.compile finds no C++ compiler: install g++"
            return "error " + (str(e) if isinstance(e, Refused) else text[:150])


def main():
    # The answers have the real stdout; what a library prints goes to stderr.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    server = Server()
    for line in sys.stdin:
        if line.strip() == "quit":
            break
        if line.strip():
            answers.write(server.answer(line) + "\n")


if __name__ == "__main__":
    main()
