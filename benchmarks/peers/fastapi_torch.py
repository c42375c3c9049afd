"""The service that most people write: FastAPI in front of a torchvision network, one image per request.

    python benchmarks/peers/fastapi_torch.py --base FILE --port 8001

Answers `POST /predict` with the likeliest class of the file in the field `file`. Prints `ready` once it can answer.
Imports nothing from graft.
"""

import argparse
import io

import torch
import uvicorn
from expert import load_base, resize_and_crop
from fastapi import FastAPI, File, UploadFile
from PIL import Image


def main() -> None:
    parser = argparse.ArgumentParser(description="A network behind FastAPI.")
    parser.add_argument("--base", required=True)
    parser.add_argument("--port", type=int, required=True)
    given = parser.parse_args()
    base = load_base(given.base)
    network, transform = base.network.eval(), resize_and_crop(base)
    app = FastAPI()

    @app.post("/predict")
    async def predict(file: UploadFile = File(...)) -> dict:  # noqa: B008
        image = Image.open(io.BytesIO(await file.read())).convert("RGB")
        with torch.no_grad():
            probabilities = torch.softmax(network(transform(image).unsqueeze(0)), 1)[0]
        probability, index = probabilities.max(0)
        return {"label": int(index), "probability": float(probability)}

    @app.on_event("startup")
    async def ready() -> None:
        print("ready", flush=True)

    uvicorn.run(app, host="127.0.0.1", port=given.port, log_level="warning")


if __name__ == "__main__":
    main()
