"""A worker without a model, for tests of what surrounds it: the image says what is to happen.

`echo …` is answered with its own text as an error, `slow …` after 0.1 s, and `shout` after a very long line on stderr;
`die` ends the process.
"""

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

from graft.serving import framing


def main() -> None:
    given, out, writing = sys.stdin.buffer, sys.stdout.buffer, Lock()
    told = Path(os.environ["STAND_IN_VERSION"]).read_text() if "STAND_IN_VERSION" in os.environ else "one"
    version = told.split()[0]
    if version == "broken":
        out.writelines(framing.pack({"refused": "expected a model, got none: save it", "exit_code": 2}))
        return
    about = {"classes": [version], "version": version, "digest": told}
    about |= {"engine": "none", "input_size": 1, "made_from": {}}

    def tell(header: dict) -> None:
        with writing:
            out.writelines(framing.pack(header))
            out.flush()

    def work(header: dict, blobs: list[bytes]) -> None:
        texts = [blob.decode() for blob in blobs]
        if "die" in texts:
            os._exit(9)
        if any(text.startswith("slow") for text in texts):
            time.sleep(0.1)
        if "shout" in texts:
            os.write(2, b"x" * 2**23)
        if "fail" in texts:
            tell({"batch": header["batch"], "failed": "ValueError: no"})
            return
        answers = [{"error": f"{text} of {len(texts)} by {version}"} for text in texts]
        tell({"batch": header["batch"], "answers": answers})

    tell({"ready": about})
    with ThreadPoolExecutor(2) as pool:
        while (message := framing.read(given)) is not None:
            pool.submit(work, *message)


if __name__ == "__main__":
    main()
