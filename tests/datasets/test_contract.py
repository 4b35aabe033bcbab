"""What every format must give: each window exactly once, everything in it aligned and masked."""

import multiprocessing
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from scd_wm.clip import Clip
from scd_wm.convert.run import convert
from scd_wm.datasets.dataset import RobotDataset, open_dataset
from scd_wm.datasets.formats import open_reader
from scd_wm.testing import check_reader
from tests.convert.test_convert import check_equal
from tests.datasets.conftest import LENGTHS
from tests.datasets.samples import SAMPLES, Sample


@pytest.fixture(params=SAMPLES)
def sample(request: pytest.FixtureRequest) -> Sample:
    """Return each format's sample."""
    return SAMPLES[request.param]


@pytest.fixture
def path(sample: Sample, tmp_path: Path) -> Path:
    """Return a small data set of each format."""
    (tmp_path / "sample").mkdir()
    return sample.write(tmp_path / "sample")


@pytest.fixture(params=["in memory", "from disk"])
def dataset(path: Path, request: pytest.FixtureRequest) -> RobotDataset:
    """Return the data set, with images kept in memory and not."""
    return open_dataset(path, memory_bytes=2**20 if request.param == "in memory" else 0)


def which(image: torch.Tensor) -> tuple[int, int]:
    """Return episode and time that an image, (H, W, 3) uint8, says it has."""
    red, green, _ = image.float().mean(dim=(0, 1)).tolist()
    return round((red - 40) / 60), round((green - 20) / 20)


def check_frame(
    clip: Clip, k: int, episode: int, t: int, stored: bool, names: tuple[str, str]
) -> None:
    """Check frame k of a clip, which is frame t of an episode, against what the data says."""
    length = LENGTHS[episode]
    observed = 0 <= t < length + stored
    for name in names:
        assert bool(clip.valid[name][k]) == observed
    if observed:
        assert which(clip.images[names[0]][k]) == (episode, t)
        assert clip.vectors[names[1]][k].tolist() == [episode, t]
    else:
        assert not clip.images[names[0]][k].any()
        assert not clip.vectors[names[1]][k].any()
    for name in clip.outcome:
        assert bool(clip.valid[name][k]) == (t >= 1)
    assert clip.outcome["reward"][k] == max(t - 1, 0)
    assert clip.outcome["success"][k] == (t == length)


@pytest.mark.parametrize("num_frames", [1, 3, 6])
def test_every_window_is_aligned_and_masked(
    dataset: RobotDataset, sample: Sample, num_frames: int
) -> None:
    camera, vector, stored = sample.camera, sample.vector, sample.stores_last
    for episode, start in dataset.clip_starts(num_frames).tolist():
        clip = dataset.clip(episode, start, num_frames)
        assert clip.num_frames == num_frames
        assert clip.images[camera].dtype == torch.uint8
        assert clip.vectors[vector].dtype == clip.actions.dtype == torch.float32
        for k in range(num_frames):
            check_frame(clip, k, episode, start + k, stored, (camera, vector))
        for k, t in enumerate(range(start, start + num_frames - 1)):
            assert bool(clip.action_valid[k]) == (t >= 0)
            assert clip.actions[k].tolist() == ([episode, t] if t >= 0 else [0, 0])


@pytest.mark.parametrize("num_frames", [1, 3, 6])
@pytest.mark.parametrize("start_frame", [True, False])
def test_every_window_comes_exactly_once(
    dataset: RobotDataset, num_frames: int, start_frame: bool
) -> None:
    expected = [
        [episode, start]
        for episode, length in enumerate(LENGTHS)
        for start in range(-start_frame, length + 1)
        if start + num_frames <= length + 1  # frames 0 to `length`
    ]
    assert dataset.clip_starts(num_frames, start_frame).tolist() == expected


def test_frames_that_are_not_there_are_refused(dataset: RobotDataset) -> None:
    for start, num_frames in [(-2, 2), (0, 7), (6, 1)]:
        with pytest.raises(IndexError, match=r"no frames .* has 0 to 5"):
            dataset.clip(0, start, num_frames)


def test_info_and_properties(dataset: RobotDataset, sample: Sample) -> None:
    camera, vector, stored = sample.camera, sample.vector, sample.stores_last
    assert dataset.cameras == (camera,)
    assert dataset.vectors == (vector,)
    assert dataset.image_sizes == {camera: (32, 48)}
    assert dataset.fps == sample.fps
    assert [e.num_actions for e in dataset.episodes] == list(LENGTHS)
    assert [e.has_last_observation for e in dataset.episodes] == [stored] * 3
    assert {"reward", "success"} <= set(dataset.outcomes)


def test_images_are_resized(path: Path, sample: Sample) -> None:
    camera = sample.camera
    cases: list[tuple[int | tuple[int, int], tuple[int, int]]]
    cases = [(16, (16, 16)), ((8, 24), (8, 24))]
    for size, shape in cases:
        dataset = open_dataset(path, image_size=size)
        assert dataset.image_sizes == {camera: shape}
        image = dataset.clip(2, 3, 1).images[camera][0]
        assert image.shape == (*shape, 3)
        assert which(image) == (2, 3)


def test_keys_are_chosen_by_name(path: Path, sample: Sample) -> None:
    camera, vector = sample.camera, sample.vector
    assert open_dataset(path, cameras=()).clip(0, 0, 2).images == {}
    assert open_dataset(path, vectors=(), cameras=[camera]).clip(0, 0, 2).vectors == {}
    with pytest.raises(KeyError, match=f"no camera 'wrist' in .*; it has .*{camera}"):
        open_dataset(path, cameras=["wrist"])
    with pytest.raises(KeyError, match=f"no vector '{camera}' in .*; it has .*{vector}"):
        open_dataset(path, vectors=[camera])
    with pytest.raises(TypeError, match="must be a sequence of names"):
        open_dataset(path, cameras="top")
    with pytest.raises(ValueError, match="no camera and no vector"):
        open_dataset(path, cameras=(), vectors=())


def test_a_pickled_data_set_gives_the_same_clips(dataset: RobotDataset) -> None:
    clip, copy = dataset.clip(2, 1, 4), pickle.loads(pickle.dumps(dataset)).clip(2, 1, 4)
    for name, image in clip.images.items():
        assert torch.equal(image, copy.images[name])
    assert torch.equal(clip.actions, copy.actions)


def test_what_is_kept_in_memory_is_not_pickled(dataset: RobotDataset) -> None:
    before = len(pickle.dumps(dataset))
    dataset.clip(2, 1, 4)
    assert len(pickle.dumps(dataset)) < before + 100  # bytes, fewer than the smallest array


def test_a_subset_of_a_subset_has_the_right_episode(dataset: RobotDataset) -> None:
    only = dataset.subset([1, 2]).subset([1])
    assert only.episodes == dataset.episodes[2:]
    assert only.clip(0, 0, 1).vectors[dataset.vectors[0]].tolist() == [[2, 0]]


class Windows(torch.utils.data.Dataset[Clip]):
    """All windows of three frames, for worker processes."""

    def __init__(self, dataset: RobotDataset) -> None:
        self.dataset, self.starts = dataset, dataset.clip_starts(3).tolist()

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: int) -> Clip:
        episode, start = self.starts[index]
        return self.dataset.clip(episode, start, 3)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on a machine of one core
@pytest.mark.parametrize("start", ["fork", "forkserver"])  # with the parent's handles, and without
def test_workers_read_what_the_parent_reads(dataset: RobotDataset, start: str) -> None:
    windows = Windows(dataset)
    here = [windows[i] for i in range(len(windows))]  # opens the parent's handles
    context = multiprocessing.get_context(start)
    context.set_forkserver_preload([__name__])
    loader = DataLoader(windows, batch_size=None, num_workers=2, multiprocessing_context=context)
    for mine, theirs in zip(here, loader, strict=True):
        assert mine.episode == theirs.episode
        for name, image in mine.images.items():
            assert torch.equal(image, theirs.images[name])


def test_split_divides_the_episodes(dataset: RobotDataset) -> None:
    train, held_out = dataset.split(0.1, seed=3)
    assert len(held_out.episodes) == 1
    names = [e.name for e in [*train.episodes, *held_out.episodes]]
    assert sorted(names) == sorted(e.name for e in dataset.episodes)
    again = dataset.split(0.1, seed=3)[1]
    assert held_out.episodes == again.episodes
    assert {dataset.split(0.1, seed=s)[1].episodes[0].name for s in range(20)} == set(names)
    index = dataset.episodes.index(held_out.episodes[0])
    vector = dataset.vectors[0]
    assert held_out.clip(0, 0, 2).vectors[vector][0].tolist() == [index, 0]


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5])
def test_split_refuses_shares_out_of_range(dataset: RobotDataset, share: float) -> None:
    with pytest.raises(ValueError, match=f"held_out must be between 0 and 1, got {share}"):
        dataset.split(share)


def test_split_needs_two_episodes(dataset: RobotDataset) -> None:
    with pytest.raises(ValueError, match=r"needs 2 episodes, .* has 1"):
        dataset.subset([1]).split()


def test_last_step_keeps_its_outcome(dataset: RobotDataset, sample: Sample) -> None:
    vector, stored = sample.vector, sample.stores_last
    clip = dataset.clip(0, 5, 1)
    assert clip.outcome["success"].tolist() == [1]
    assert clip.valid["success"].tolist() == [True]
    assert clip.valid[vector].tolist() == [stored]


def test_numbers_are_float32(dataset: RobotDataset) -> None:
    arrays = dataset.arrays(0)
    assert {a.dtype for a in [arrays.actions, *arrays.vectors.values()]} == {np.dtype(np.float32)}


def test_the_reader_keeps_its_contract(path: Path) -> None:
    check_reader(open_reader(path))


def test_every_format_converts_to_a_store_byte_by_byte(path: Path, tmp_path: Path) -> None:
    convert(path, tmp_path / "converted")
    check_equal(open_reader(tmp_path / "converted"), open_reader(path))


def test_every_format_converts_to_a_robomimic_file(
    path: Path, tmp_path: Path, sample: Sample
) -> None:
    camera, vector, stored = sample.camera, sample.vector, sample.stores_last
    convert(path, tmp_path / "converted.hdf5")
    dataset = open_dataset(tmp_path / "converted.hdf5")
    for episode, length in enumerate(LENGTHS):
        clip = dataset.clip(episode, 0, length + 1)
        for t in range(length + stored):
            assert which(clip.images[camera][t]) == (episode, t)
            assert clip.vectors[vector][t].tolist() == [episode, t]
        assert clip.valid[vector].tolist() == [True] * length + [stored]
        assert clip.actions.tolist() == [[episode, t] for t in range(length)]
