"""Brings objects to one place, in the order that keeps it sound: packs, then the index files that name them, then snapshots."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from backup_tool.destinations.several.reading import Place
from backup_tool.destinations.several.spool import Parcel
from backup_tool.errors import BackupError

Fetch = Callable[[Parcel, Place], AbstractContextManager[Path]]
"""Where the verified bytes of an object lie on this machine, as long as the block lasts."""


class Courier:
    """Carries parcels to a place in the background, in the order they come. Packs go several at once; anything else goes alone, when all
    before it have arrived.

    The first error ends it: nothing that comes later is carried, so that no index or snapshot arrives before what it names. `arrived` is
    told of every parcel that the place has confirmed.
    """

    def __init__(
        self,
        place: Place,
        fetch: Fetch,
        arrived: Callable[[Place, Parcel], None],
        *,
        uploads: int = 4,
        may_write: Callable[[], None] = lambda: None,
    ) -> None:
        self.place = place
        self.error: BackupError | None = None
        """Why nothing more is carried. The place may still be good for reading: it may only be full."""
        self.objects = self.bytes = 0
        """What the place has confirmed."""
        self.may_write = may_write
        """Raises where the place's lock was lost."""
        self._fetch, self._arrived = fetch, arrived
        self._parcels: deque[Parcel] = deque()
        self._put = self._settled = 0
        self._to_carry = [0, 0]
        self._under_way = 0
        self._alone = False
        self._stopped = False
        self._bug: BaseException | None = None
        self._change = threading.Condition()
        self._threads = [threading.Thread(target=self._work, name=f"to {place.name}", daemon=True) for _ in range(uploads)]
        for thread in self._threads:
            thread.start()

    def put(self, parcel: Parcel) -> None:
        """Carry this too."""
        with self._change:
            self._parcels.append(parcel)
            self._put += 1
            self._to_carry[0] += 1
            self._to_carry[1] += parcel.size
            self._change.notify_all()

    @property
    def to_carry(self) -> tuple[int, int]:
        """(objects, bytes) that the place has not confirmed."""
        with self._change:
            return self._to_carry[0], self._to_carry[1]

    @property
    def left(self) -> int:
        """Bytes that are still to be carried, of parcels that nobody has begun with."""
        with self._change:
            return sum(parcel.size for parcel in self._parcels)

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until everything has arrived or was given up, or so long. True where nothing is left. Raises what nobody foresaw."""
        with self._change:
            done = self._change.wait_for(lambda: self._settled == self._put or self._stopped, seconds)
        if self._bug is not None:
            raise self._bug
        return done

    def stop(self) -> None:
        """Begin with nothing more."""
        with self._change:
            self._stopped = True
            self._change.notify_all()

    def _work(self) -> None:
        while (parcel := self._next()) is not None:
            try:
                if self.is_going():
                    self._carry(parcel)
            except BackupError as error:
                self.error = self.error or error
            except BaseException as bug:
                self._bug = self._bug or bug
                self.error = self.error or BackupError(f"delivery to {self.place.name} failed unexpectedly")
            finally:
                with self._change:
                    self._under_way -= 1
                    self._settled += 1
                    self._alone = False
                    self._change.notify_all()

    def _next(self) -> Parcel | None:
        with self._change:
            while not self._stopped:
                if self._parcels and (not self._under_way or (self._parcels[0].kind == "data" and not self._alone)):
                    parcel = self._parcels.popleft()
                    self._under_way += 1
                    self._alone = parcel.kind != "data"
                    return parcel
                self._change.wait()
            return None

    def is_going(self) -> bool:
        """False where nothing more is carried: something failed, or the place is not to be asked any more."""
        self.error = self.error or self.place.error
        return self.error is None

    def _carry(self, parcel: Parcel) -> None:
        self.may_write()
        try:
            self._save(parcel)
        except FileNotFoundError:  # it has just left the spool, since another place has it
            self._save(parcel)
        except OSError as error:
            raise BackupError(f"{parcel.kind} {parcel.name[:16]} could not be read here: {(error.strerror or 'error').lower()}") from error
        self.count(parcel)
        with self._change:
            self._to_carry[0] -= 1
            self._to_carry[1] -= parcel.size
        self._arrived(self.place, parcel)

    def count(self, parcel: Parcel) -> None:
        """The place has it."""
        with self._change:
            self.objects += 1
            self.bytes += parcel.size

    def _save(self, parcel: Parcel) -> None:
        with self._fetch(parcel, self.place) as path:
            self.place.destination.save_file(parcel.kind, parcel.name, path)
