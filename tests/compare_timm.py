"""A published model in timm and in vit.h: the same logits? For a machine with a network.

    make build/13_pretrained
    python tests/compare_timm.py vit_tiny_patch16_224.augreg_in21k_ft_in1k

wants timm, torch, safetensors and pillow. timm fetches the model, which is written
as a safetensors file; both sides get the same made picture, of just the size that
the model wants, so that only the model is compared. One line is printed; the exit
status is 0 where the logits agree. --random takes random weights and no network.
"""
import pathlib, subprocess, sys, tempfile

if len([a for a in sys.argv[1:] if not a.startswith("-")]) != 1:
    sys.exit(__doc__)
import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

PROGRAM = pathlib.Path(__file__).resolve().parent.parent / "build" / "13_pretrained"
# A preparation that only subtracts this mean from a picture of the right size.
PREPROCESS = {(0.5, 0.5, 0.5): "hf", (0.485, 0.456, 0.406): "dinov2", (0.48145466, 0.4578275, 0.40821073): "clip"}


def main():
    names = [a for a in sys.argv[1:] if a != "--random"]
    torch.manual_seed(1)
    model = timm.create_model(names[0], pretrained="--random" not in sys.argv).eval()
    data = timm.data.resolve_model_data_config(model)
    _, height, width = data["input_size"]
    mean, std = (torch.tensor(data[k]).reshape(3, 1, 1) for k in ("mean", "std"))
    if tuple(data["mean"]) not in PREPROCESS or height != width:
        sys.exit(f"{names[0]} wants {height} x {width} pixels of mean {data['mean']}: this script does not know how")
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([128 + 127 * np.sin(x / 9), 255 * y / height, (x ^ y) % 256], axis=2).astype(np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        file, picture = f"{folder}/model.safetensors", f"{folder}/picture.png"
        save_file({k: v.contiguous().clone() for k, v in model.state_dict().items()}, file)
        Image.fromarray(pixels).save(picture)
        command = [str(PROGRAM), file, picture, "--logits", "--out", folder, "--preprocess", PREPROCESS[tuple(data["mean"])],
                   "--heads", str(model.blocks[0].attn.num_heads)]
        run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode:
        sys.exit(f"{names[0]}: vit.h says: {run.stderr.strip()}")
    have = np.array([float(line.split()[2]) for line in run.stdout.splitlines() if line.startswith("  logit ")])
    image = (torch.from_numpy(pixels).permute(2, 0, 1).double() / 255 - mean) / std
    with torch.no_grad():
        want = model.double()(image[None])[0].numpy()
    if have.shape != want.shape:
        sys.exit(f"{names[0]}: timm gives {want.size} logits, vit.h {have.size}")
    far, scale = np.abs(have - want).max(), np.abs(want).max()
    same = far <= 1e-4 * scale
    print(f"{names[0]}: {want.size} logits up to {scale:.4g}, largest difference {far:.2g}, best class {want.argmax()} in "
          f"timm and {have.argmax()} in vit.h: {'the same' if same else 'NOT the same'}")
    return not same


sys.exit(main())
