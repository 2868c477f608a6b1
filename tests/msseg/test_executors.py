"""Cases on a cluster of two worker processes, some of which are killed."""

import contextlib
import os
import signal
import threading
import warnings
from concurrent.futures import Future
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from msseg import executors
from msseg.data.geometry import Geometry
from msseg.data.image import write_image, write_label
from msseg.errors import ResourceError
from msseg.executors import Place, executor_from
from msseg.files import read_json
from msseg.parallel import RemoteExecutor, WorkerKilledError, map_cases

distributed = pytest.importorskip("distributed")


def _double(number):
    return 2 * number


def _refuse_three(number):
    if number == 3:
        raise ValueError("three is refused")
    return number


def _die_at_first(path):
    """The name of the file, once it is written; before the first writing of the second the worker is killed."""
    dying = path.with_suffix(".dying")
    if path.name == "2" and not dying.exists():
        dying.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    path.touch()
    return path.name


def _die_at_two(number):
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def _threads_and_folder(_):
    return os.environ["OMP_NUM_THREADS"], Path.cwd()


@contextlib.contextmanager
def cluster_of(workers):
    """The address of a cluster that gives a call up when a second worker dies with it."""
    import dask

    with dask.config.set({"distributed.scheduler.allowed-failures": 1}), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cluster = distributed.LocalCluster(
            n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
        )
    try:
        yield cluster.scheduler_address.replace("tcp://", "dask://")
    finally:
        cluster.close()


@pytest.fixture(scope="module")
def cluster():
    with cluster_of(2) as address:
        yield address


@pytest.fixture
def executor(cluster, tmp_path):
    with executor_from(cluster, tmp_path) as executor:
        yield executor


def values(outcomes):
    return {item: outcome.value for item, outcome in outcomes}


def test_processes_are_the_own_pool():
    with executor_from("processes") as executor:
        assert executor is None


@pytest.mark.parametrize("text", ["threads", "dask://", "dask://node", "dask://node:port", "dask://a/b:1", "tcp://a:1"])
def test_another_executor_is_refused_with_what_is_known(text):
    with pytest.raises(ResourceError, match="expected processes or dask://HOST:PORT"), executor_from(text):
        pass


def test_without_dask_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr("msseg.executors.find_spec", lambda name: None)
    with (
        pytest.raises(ResourceError, match=r"not installed. Run pip install 'msseg\[dask\]'"),
        executor_from("dask://a:1"),
    ):
        pass


def test_a_scheduler_that_does_not_answer_is_named_soon(tmp_path, monkeypatch):
    monkeypatch.setattr("msseg.executors._CONNECT_S", 0.5)
    with pytest.raises(ResourceError, match="no Dask scheduler answers"), executor_from("dask://localhost:1", tmp_path):
        pass


def test_each_case_is_done_once_and_an_error_harms_no_other(executor):
    assert values(map_cases(_double, list(range(30)), 1, executor)) == {number: 2 * number for number in range(30)}
    outcomes = dict(map_cases(_refuse_three, [1, 2, 3, 4], 1, executor))
    assert isinstance(outcomes.pop(3).error, ValueError)
    assert values(outcomes.items()) == {1: 1, 2: 2, 4: 4}


def test_a_worker_computes_with_one_thread_in_the_folder_of_the_client(executor):
    (outcome,) = [outcome for _, outcome in map_cases(_threads_and_folder, [0], 1, executor)]
    assert outcome.value == ("1", Path.cwd())


def test_the_case_of_a_killed_worker_is_done_by_another(executor, tmp_path):
    paths = [tmp_path / str(number) for number in range(6)]
    assert sorted(values(map_cases(_die_at_first, paths, 1, executor)).values()) == list("012345")
    assert all(path.is_file() for path in paths)


def test_a_case_that_kills_its_worker_again_and_again_fails_alone(executor):
    outcomes = dict(map_cases(_die_at_two, [0, 1, 2, 3, 4, 5], 1, executor))
    failed = outcomes.pop(2)
    assert values(outcomes.items()) == {0: 0, 1: 1, 3: 3, 4: 4, 5: 5}
    assert isinstance(failed.error, ResourceError)
    assert str(failed.error).startswith("2: 2 workers of the cluster died with it")


class _Suspicious(RemoteExecutor):
    """Blames all who are tried for the first time, and again `guilty` alone."""

    def __init__(self, guilty):
        self.guilty, self.tried = guilty, []

    def submit(self, function, /, item):
        future = Future()
        if item in self.guilty or item not in self.tried:
            future.set_exception(WorkerKilledError("died"))
        else:
            future.set_result(function(item))
        self.tried.append(item)
        return future


def test_suspects_are_tried_again_each_alone():
    outcomes = dict(map_cases(_double, [1, 2, 3], 1, _Suspicious(guilty=[2])))
    assert values(outcomes.items()) == {1: 2, 2: None, 3: 6}
    assert (type(outcomes[2].error), str(outcomes[2].error)) == (ResourceError, "2: died")


def test_where_every_suspect_kills_the_rest_is_not_tried_again():
    executor = _Suspicious(guilty=range(10))
    assert values(map_cases(_double, list(range(10)), 1, executor)) == dict.fromkeys(range(10))
    assert len(executor.tried) == 10 + 3


def test_workers_that_see_other_files_are_refused(cluster, tmp_path, monkeypatch):
    def place_of_another_machine(marker, start):
        return Place(str(tmp_path / "not there"), start)

    monkeypatch.setattr("msseg.executors.Place", place_of_another_machine)
    with pytest.raises(ResourceError, match="use a shared file system"), executor_from(cluster, tmp_path):
        pass


def test_workers_of_another_version_are_refused(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr("msseg.__version__", "99")
    with pytest.raises(ResourceError, match="expected 99 as here"), executor_from(cluster, tmp_path):
        pass


def test_a_failing_block_leaves_the_cluster_free_and_no_file_behind(cluster, tmp_path):
    with pytest.raises(KeyError), executor_from(cluster, tmp_path) as executor:
        executor.submit(_double, 1).result()
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_a_cluster_without_workers_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("msseg.executors._FIRST_WORKER_S", 0.2)
    started = pytest.raises(ResourceError, match="the scheduler has no workers")
    with cluster_of(0) as address, started, executor_from(address, tmp_path):
        pass


def test_a_cluster_that_has_lost_all_workers_is_spoken_of(monkeypatch, caplog):
    class Empty:
        def scheduler_info(self):
            return {"workers": {}}

    monkeypatch.setattr("msseg.executors._LOOK_EVERY_S", 0.01)
    executors._warn_without_workers(Empty(), threading.Event())
    assert "no workers left: the command waits" in caplog.text


def test_a_command_gives_the_same_figures_on_a_cluster(cluster, tmp_path, capsys):
    from PIL import Image

    from msseg.commands.evaluate import main

    generator = np.random.default_rng(5)
    for folder in ("predictions", "references"):
        (tmp_path / folder).mkdir()
        for name in "abc":
            Image.fromarray(generator.integers(0, 2, (16, 16), np.uint8)).save(tmp_path / folder / f"{name}.png")
    common = ["-p", str(tmp_path / "predictions"), "-r", str(tmp_path / "references"), "--labels", '{"cell": 1}', "-q"]
    assert main([*common, "-o", str(tmp_path / "here.json"), "--workers", "1"]) == 0
    assert main([*common, "-o", str(tmp_path / "there.json"), "--executor", cluster]) == 0
    assert read_json(tmp_path / "there.json") == read_json(tmp_path / "here.json")
    assert main([*common, "--executor", cluster, "--max-ram", "8GB"]) == 1
    assert "--memory-limit" in capsys.readouterr().err


@contextlib.contextmanager
def a_worker_killed_once(cluster, has_begun):
    """Kills one of the cluster's worker processes as soon as `has_begun()`; afterwards it must have come to that."""
    with distributed.Client(cluster.replace("dask://", "tcp://"), set_as_default=False) as client:
        client.wait_for_workers(2)
        victim = min(client.run(os.getpid).values())
    killed, over = threading.Event(), threading.Event()

    def watch():
        while not over.wait(0.005):
            if has_begun():
                os.kill(victim, signal.SIGKILL)
                killed.set()
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
    assert killed.is_set()


def _any_below(folder, pattern="*.safetensors"):
    return any(folder.rglob(pattern))


def written(folder, *endings):
    """The bytes of the files below a folder by name."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.suffix in endings and not path.name.startswith(".")
    }


@pytest.fixture
def volumes(tmp_path):
    """Images and labels of ten volumes in folders as they come, called by letters."""
    generator = np.random.default_rng(6)
    grid = Geometry((8, 16, 16), (2.0, 1.0, 1.0))
    for name in "abcdefghij":
        image = generator.normal(size=(1, *grid.shape)).astype(np.float32)
        for folder in ("images", "labels"):
            (tmp_path / "volumes" / folder).mkdir(parents=True, exist_ok=True)
        write_image(tmp_path / f"volumes/images/{name}.nii.gz", image, grid)
        write_label(tmp_path / f"volumes/labels/{name}.nii.gz", (image[0] > 1).astype(np.uint8), grid)
    return tmp_path / "volumes"


def test_converting_and_preparing_go_on_where_a_worker_is_killed_on_the_way(cluster, volumes, tmp_path):
    from msseg.commands import convert, plan_and_preprocess

    sets = {}
    for place, where in (("here", ["--workers", "1"]), ("there", ["--executor", cluster])):
        data, root = tmp_path / place / "Dataset001_Mini", tmp_path / place / "root"
        kills = place == "there"
        with a_worker_killed_once(cluster, (data / "imagesTr").is_dir) if kills else contextlib.nullcontext():
            assert convert.main(["--from", "folder", str(volumes), str(data), "-q", *where]) == 0
        prepares = [str(data), "--root", str(root), "--configuration", "3d", "-q", *where]
        with a_worker_killed_once(cluster, partial(_any_below, root)) if kills else contextlib.nullcontext():
            assert plan_and_preprocess.main(prepares) == 0
        sets[place] = written(data, ".gz", ".json"), written(root, ".safetensors")
    assert len(sets["here"][0]) == 21 and sets["here"][1] and sets["there"] == sets["here"]


def test_predicting_goes_on_where_a_worker_is_killed_on_the_way(
    cluster, volumes, tmp_path, make_plan, make_configuration
):
    import torch

    from msseg.checkpoint import Checkpoint, save_checkpoint
    from msseg.commands import predict
    from msseg.networks.build import build_network

    configuration = make_configuration()
    network = build_network(configuration, 1, 2, torch.Generator().manual_seed(0))
    checkpoint = Checkpoint(network.state_dict(), make_plan(configuration), configuration.name)
    save_checkpoint(tmp_path / "model/fold_0/checkpoint_final.safetensors", checkpoint)
    common = ["-i", str(volumes / "images"), "-m", str(tmp_path / "model"), "--mode", "fast", "--no-mirroring", "-q"]
    assert predict.main([*common, "-o", str(tmp_path / "here"), "--workers", "1"]) == 0
    begun = partial(_any_below, tmp_path / "there", "*.nii.gz")
    with a_worker_killed_once(cluster, begun):
        assert predict.main([*common, "-o", str(tmp_path / "there"), "--executor", cluster]) == 0
    here = written(tmp_path / "here", ".gz")
    assert len(here) == 10 and written(tmp_path / "there", ".gz") == here
