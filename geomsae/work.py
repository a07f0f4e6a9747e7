"""What is to be counted, and by what means: from the store's words to those of the engine."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import geomsae
from geomsae.ask import Ask
from geomsae.errors import DeviceError, GeomsaeError
from geomsae.pairs.budget import Budget, Job, plan_budget, plan_of, usual_memory
from geomsae.pairs.kernel import check_device
from geomsae.pairs.plan import TILE, SuperTile
from geomsae.pairs.schedule import crew, devices
from geomsae.pairs.stored import StoredDecoder
from geomsae.store import Store
from geomsae.store.layout import chunk_rows

DEVICES = ("auto", "cpu", "gpu")


@dataclass(frozen=True, slots=True)
class Work:
    """All pairs of features of one stored dictionary, or of one feature of each of two.

    Parameters
    ----------
    store : Store
        Where they are.
    ids : tuple of str
        One dictionary, or two.
    ask : Ask
        What is to be found out.
    """

    store: Store
    ids: tuple[str, ...]
    ask: Ask

    @property
    def jobs(self) -> list[Job]:
        """Their shapes, and how many rows of each are read at a time."""
        return [job_of(self.store, id) for id in self.ids]

    @property
    def job(self) -> Job:
        """The shape of the first."""
        return self.jobs[0]

    @property
    def other(self) -> Job | None:
        """That of the second, if there is one."""
        return self.jobs[1] if len(self.ids) > 1 else None

    def source(self, budget: Budget) -> dict[str, Any]:
        """What makes it the same as what an interrupted run has left."""
        return {
            "ids": self.ids,
            "sha256": [self.store.attributes(id)["sha256"] for id in self.ids],
            "version": geomsae.__version__,
            "device": budget.device,
            "side": budget.side,
            **asdict(self.ask),
        }

    def plan(self, budget: Budget) -> list[SuperTile]:
        """The tasks."""
        return plan_of(self.job, self.other, budget.side)

    def decoders(self, budget: Budget) -> tuple[StoredDecoder, StoredDecoder | None]:
        """The words by which workers find the rows, and the columns if those are others."""
        rows, *cols = (
            StoredDecoder(
                self.store.hierarchy.address,
                id,
                self.store.attributes(id)["sha256"],
                job.n,
                job.run,
                self.ask.precision,
                budget.panel_bytes,
                budget.device,
                budget.device_bytes,
            )
            for id, job in zip(self.ids, self.jobs, strict=True)
        )
        return rows, cols[0] if cols else None


@dataclass(frozen=True, slots=True)
class Means:
    """By what is counted; made by `means`.

    Parameters
    ----------
    device : {"cpu", "gpu"}
        What multiplies.
    memory : int
        Bytes that all processes of a machine keep to.
    device_memory : int
        Bytes that each process keeps to on its GPU.
    """

    device: str
    memory: int
    device_memory: int = 0

    def budget(self, work: Work) -> Budget:
        """How some work is done with these.

        Raises
        ------
        GeomsaeError
            If it cannot be; the sentence says what would do.
        """
        job, who = work.job, crew(self.device)
        if self.device == "cpu":
            return plan_budget(job, work.ask, self.memory, who, work.other)
        from geomsae.pairs.gpu.budget import plan_card

        budget = plan_card(job, work.ask, self.device_memory, who.processes, work.other)
        if budget.total > self.memory:
            raise GeomsaeError(
                f"counting {job.n:,} x {job.d:,} on a GPU takes {budget.total / 1e6:,.0f} MB of "
                f"the host's memory and {self.memory / 1e6:,.0f} MB are allowed: give it more "
                "with --memory"
            )
        return budget

    def smaller(self, work: Work, budget: Budget) -> Budget:
        """A budget for the same tasks that keeps half as many panels on a GPU.

        Raises
        ------
        DeviceMemoryError
            If they cannot be done in so little.
        """
        from geomsae.pairs.gpu.budget import CONTEXT_BYTES, plan_card

        half = budget.device_bytes - budget.panel_bytes // 2 + CONTEXT_BYTES
        processes = crew(self.device).processes
        return plan_card(work.job, work.ask, half, processes, work.other, budget.side)


def means(
    device: str, precision: str, memory: int | None = None, device_memory: int | None = None
) -> Means:
    """The means that are there, as far as they are not said.

    Parameters
    ----------
    device : {"auto", "cpu", "gpu"}
        What multiplies: a GPU if there is one, by default.
    precision : str
        Arithmetic of the products.
    memory : int, optional
        Bytes that all processes of a machine keep to; half of what is free by default.
    device_memory : int, optional
        Bytes that each process keeps to on its GPU; nine tenths of what is free by default.

    Raises
    ------
    DeviceError
        If there is no such device, or it cannot do the arithmetic.
    """
    if device not in DEVICES:
        raise DeviceError(f"there is no device {device!r}: use {', '.join(DEVICES)}")
    if device == "auto":
        device = "gpu" if "gpu" in devices() else "cpu"
    memory = usual_memory() if memory is None else memory
    if device == "cpu":
        check_device(device, precision)
        return Means(device, memory)
    from geomsae.pairs.gpu.budget import usual_device_memory

    usual = usual_device_memory(precision)
    return Means(device, memory, usual if device_memory is None else device_memory)


def job_of(store: Store, id: str) -> Job:
    """A dictionary of a store as a job: its shape, and how many rows are read at a time."""
    known = store.attributes(id)
    n, d = known["n_features"], known["d_model"]
    return Job(n, d, max(TILE, chunk_rows(n, d) // TILE * TILE))
