"""The service that users of LitServe write: a torchvision network behind its server, in batches of eight.

    python benchmarks/peers/litserve_torch.py --base FILE --port 8002

Answers `POST /predict` with the likeliest class of the file in the field `file`. Prints `ready` once it can answer.
Imports nothing from graft; needs `pip install litserve` beside torch and torchvision.
"""

import argparse
import io
from pathlib import Path
from typing import Any

import litserve
import torch
from expert import load_base, resize_and_crop
from fastapi import Request
from PIL import Image


class Classifier(litserve.LitAPI):
    def __init__(self, base: Path, **options: Any) -> None:
        super().__init__(**options)
        self._base = base

    def setup(self, device: str) -> None:
        base = load_base(self._base)
        self.network, self.transform = base.network.eval().to(device), resize_and_crop(base)
        print("ready", flush=True)

    def decode_request(self, request: Request) -> torch.Tensor:
        return self.transform(Image.open(io.BytesIO(request["file"].file.read())).convert("RGB"))

    def predict(self, images: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return torch.softmax(self.network(images), 1)

    def encode_response(self, output: torch.Tensor) -> dict[str, Any]:
        probability, index = output.max(0)
        return {"label": int(index), "probability": float(probability)}


def main() -> None:
    parser = argparse.ArgumentParser(description="A network behind LitServe.")
    parser.add_argument("--base", required=True, type=Path)
    parser.add_argument("--port", type=int, required=True)
    given = parser.parse_args()
    api = Classifier(given.base, max_batch_size=8, batch_timeout=0.005)
    server = litserve.LitServer(api, accelerator="cpu", timeout=60)
    server.run(host="127.0.0.1", port=given.port, log_level="warning", generate_client_file=False)


if __name__ == "__main__":
    main()
