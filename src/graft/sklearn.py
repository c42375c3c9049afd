"""graft inside scikit-learn: an image classifier for `cross_val_score`, `GridSearchCV` and pipelines.

    from graft.sklearn import GraftClassifier
    cross_val_score(GraftClassifier(level="head"), images, labels, cv=10)

Needs the extra `sklearn`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from graft.data.handed_labels import texts_of
from graft.data.handed_over import Frame, from_arrays
from graft.errors import DataError, InputError
from graft.features.rows import KeptRows, keeping_rows
from graft.given import native
from graft.images.handed_over import is_open_file, is_tensor, named
from graft.names import plain
from graft.progress import NOBODY, reporting
from graft.weights.kept import KeptBases, keeping_bases
from graft.weights.model_files import MODEL_FILES
from graft.weights.packaged import DEFAULT_BASE
from graft.weights.saved import save_model
from graft.words import counted
from graft.workflows.arguments import Arguments, absolute
from graft.workflows.fit import Fitted, fit

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.utils.validation import check_is_fitted, column_or_1d
except ImportError:
    raise InputError(
        "expected scikit-learn for graft.sklearn, got none installed: install graft-vision[sklearn]"
    ) from None

if TYPE_CHECKING:
    from graft.training.recipe import Recipe

# Shared by all estimators of this process: folds and grids ask for the same images again and again.
FEATURES = KeptRows()
BASES = KeptBases()


def _several(X: Any) -> Any:
    """Return X as a sized object that can be iterated repeatedly; of a data frame, its only column.

    Raises InputError for a frame of several columns, and for a single image, whose rows or letters would be taken for
    images.
    """
    if isinstance(X, Frame):
        columns = list(X.columns)
        if len(columns) != 1:
            raise InputError(
                f"expected a sequence of images, got {named(X)} of {counted(len(columns), 'column')}: give one column "
                "of it, such as that of the paths"
            )
        X = list(X[columns[0]])
    array = isinstance(X, np.ndarray) or is_tensor(X)
    # A tensor (3, H, W) may be three images of one channel, as folds of an array (N, H, W) are.
    alone = array and (X.ndim == 0 or (X.ndim == 3 and X.shape[-1] in (1, 3, 4)))
    kinds = (str, bytes, bytearray, memoryview, os.PathLike, Image.Image)
    if alone or isinstance(X, kinds) or is_open_file(X):
        shape = f" of shape {tuple(X.shape)}" if array else ""
        raise InputError(f"expected a sequence of images, got one, {named(X)}{shape}: wrap it in a list")
    # A generator can be iterated only once.
    return list(X) if isinstance(X, Iterable) and not isinstance(X, Sized) else X


def _of_one_kind(labels: Iterable[Any]) -> list[Any]:
    """Return the labels unchanged, or those of tensors as numbers. Raises DataError if strings are mixed with numbers
    or bytes.

    numpy would turn them all into strings, which are not the labels that were given.
    """
    found = [label.item() if is_tensor(label) else label for label in labels]
    kinds = [next((kind for kind in (str, bytes) if isinstance(label, kind)), int) for label in found]
    other = next((place for place, kind in enumerate(kinds) if kind is not kinds[0]), None)
    if other is not None:
        raise DataError(
            f"expected labels of one kind, got {native(found[0])!r} and {native(found[other])!r}: give all of them as "
            "strings, or all as numbers"
        )
    return found


def _check_replaceable(place: Path) -> None:
    """Raise InputError for a place that holds anything but a model that `save` wrote.

    The model of a run belongs to its report and its split: with another in its place, these would state what is wrong.
    """
    model = place / "model"
    if place.exists() and not (
        place.is_dir()
        and all(each == model for each in place.iterdir())
        and (not model.exists() or (model.is_dir() and all(each.name in MODEL_FILES for each in model.iterdir())))
    ):
        raise InputError(
            f"expected a new or empty folder to save in, or one that only save() wrote, got {str(place)!r}, which "
            "holds something else: give another"
        )


class GraftClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Image classifier trained as `graft.train` does.

    Args:
        base: The network to start from, as for `graft.train`.
        level: How much of the base to keep: `head`, `head:stages`, `stages:K`, `frozen:F`, `all`, `scratch`, or `auto`,
            which measures at every fit.
        recipe: How stages are trained, a `graft.Recipe`. None chooses what suits the base and the images.
        arch: The architecture of a base that is a file, if the file does not name it; see `graft models`.
        image_size: Side of the network's input in pixels. None uses that of the weights.
        resize: How an image becomes square: `crop`, `letterbox` or `squash`. None uses that of the weights.
        engine: What runs frozen layers: `auto`, `torch` or `openvino`.
        precision: Number format of the engine: `auto`, `float32` or `bfloat16`.
        deterministic: Whether the same fit must give a bit-identical model on another day.
        seed: Determines everything random.
        verbose: Whether to write progress and notes to stderr.

    `X` is a sequence of N images of any kind that `graft.Dataset.from_arrays` takes, or a data frame with one column of
    them; scikit-learn can take folds from lists, arrays, and frames alike. Copies of an image are not looked for: run
    `graft.audit` before making folds. The output of a frozen network is kept in memory by image content, so ten folds
    cost one pass.

    After `fit`, `classes_` has shape (C,), `fitted_` holds the network and `level_` the level; `n_features_in_` is not
    set.
    """

    def __init__(
        self,
        base: str | Path = DEFAULT_BASE,
        level: str = "auto",
        *,
        recipe: Recipe | None = None,
        arch: str | None = None,
        image_size: int | None = None,
        resize: str | None = None,
        engine: str = "auto",
        precision: str = "auto",
        deterministic: bool = False,
        seed: int = 0,
        verbose: bool = False,
    ) -> None:
        self.base = base
        self.level = level
        self.recipe = recipe
        self.arch = arch
        self.image_size = image_size
        self.resize = resize
        self.engine = engine
        self.precision = precision
        self.deterministic = deterministic
        self.seed = seed
        self.verbose = verbose

    def fit(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> GraftClassifier:
        """Train on images X (N,) and their labels y (N,); `sample_weight` (N,) says how much each image counts.

        Images with the same text or number in `groups` (N,) come from one patient or video: what is chosen by holding
        images out holds out all of them. In `cross_validate`, splitter and estimator both get them by scikit-learn's
        metadata routing, with `set_fit_request(groups=True)`. Raises `graft.InputError` and its subclasses.
        """
        from graft.training.recipe import Recipe

        X = _several(X)
        # A generator can be iterated only once.
        y = list(y) if isinstance(y, Iterable) and not isinstance(y, Sized) else y
        if is_tensor(y):
            y = y.detach().cpu().numpy()
        if getattr(y, "ndim", 1) == 2:
            y = column_or_1d(y, warn=True)
        dataset = from_arrays(X, y, weights=sample_weight, groups=groups)
        # Maps the string by which graft knows a class to the value that stands for it in y.
        values = dict(zip(map(plain, texts_of(y)), _of_one_kind(y), strict=True))
        classes = np.unique(np.asarray(list(values.values())))
        arguments = Arguments(
            data=dataset.name,
            base=absolute(self.base, "base"),
            level=self.level,
            arch=self.arch,
            image_size=self.image_size,
            resize=self.resize,  # type: ignore[arg-type]
            engine=self.engine,
            precision=self.precision,
            deterministic=self.deterministic,
            audit=False,
            seed=self.seed,
            recipe=Recipe() if self.recipe is None else self.recipe,
            in_memory=True,
        )
        with reporting(None if self.verbose else NOBODY) as told, self._kept():
            self.fitted_: Fitted = fit(arguments, dataset, told)
        self.classes_ = classes
        self.level_ = self.fitted_.plan.level
        # The network orders classes as strings or as numbers, so look up the position of each.
        known = {plain(name): number for number, name in enumerate(self.fitted_.saved.classes)}
        place = {value: known[text] for text, value in values.items()}
        self._place = np.array([place[value] for value in classes.tolist()])
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return class probabilities, float64 (N, C), in the order of `classes_`.

        Raises `graft.ImageError`, and sklearn's NotFittedError before `fit`.
        """
        check_is_fitted(self, "fitted_")
        images = _several(X)
        if isinstance(images, Sized) and not len(images):
            return np.empty((0, len(self.classes_)))
        with self._kept():
            count = len(images) if isinstance(images, Sized) else 1  # anything but a sequence is refused by its type
            found = self.fitted_.probabilities(from_arrays(images, ["?"] * count))
        probabilities: np.ndarray = found[:, self._place]
        return probabilities

    def predict(self, X: Any) -> np.ndarray:
        """Return the most likely class of each image, (N,), with values as in y. Raises what `predict_proba` does."""
        check_is_fitted(self, "fitted_")
        likeliest: np.ndarray = self.classes_[self.predict_proba(X).argmax(1)]
        return likeliest

    def save(self, folder: str | Path) -> Path:
        """Write the model folder `folder`/model, which `graft.load` and `graft predict` take, and return `folder`.

        `folder` is new, empty, or holds only what an earlier `save` wrote, which is replaced. Raises InputError for any
        other.
        """
        check_is_fitted(self, "fitted_")
        place = Path(folder).expanduser()
        _check_replaceable(place)
        place.mkdir(parents=True, exist_ok=True)
        save_model(place / "model", self.fitted_.saved)
        return place

    @contextmanager
    def _kept(self) -> Iterator[None]:
        # Other estimators computed their rows in other batches, so the last bits may differ.
        with keeping_bases(BASES), nullcontext() if self.deterministic else keeping_rows(FEATURES):
            yield

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.one_d_array = True
        tags.non_deterministic = not self.deterministic
        return tags
