"""The drafter's endless loop, in a thread of its own so that orders reach it while it drafts."""

from __future__ import annotations

import threading
from collections.abc import Callable

from drafters.distributed.messages import Allow, Cancel, Drafted, DraftOrder
from drafters.distributed.request import Request
from drafters.distributed.servers.cancel import Abandoned, abandoning
from drafters.distributed.servers.draft_server import DraftServer


class DraftLoop:
    """The drafter's endless loop: drafts behind the newest order until told to stop. `post` takes the tokens."""

    def __init__(self, server: DraftServer, post: Callable[[Drafted], None]):
        self._server, self._post = server, post
        self._changed = threading.Condition()
        self._order: DraftOrder | None = None
        self._until, self._epoch = 0, 0
        self._request: Request | None = None
        self._closing = False
        self._begun: DraftOrder | None = None  # the order that the server drafts for

    def tell(self, order: Request | DraftOrder | Allow | Cancel) -> None:
        """Take an order; returns at once."""
        with self._changed:
            match order:
                case Request():
                    self._request, self._order = order, None
                case DraftOrder(epoch=epoch, until=until):
                    self._order, self._until, self._epoch = order, until, epoch
                case Allow(epoch=epoch, until=until):
                    if epoch == self._epoch:
                        self._until = until
                case Cancel(epoch=epoch):
                    self._epoch = max(self._epoch, epoch)
            self._changed.notify_all()

    def close(self) -> None:
        """Make `run` return after the draft it is at."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def run(self) -> None:
        """DraftOrder behind the newest order, or wait for one, until `close` is called."""
        while True:
            with self._changed:
                self._changed.wait_for(self._has_work)
                if self._closing:
                    return
                request, self._request, order = self._request, None, self._order
            if request is not None:
                self._server.open(request)
                self._begun = None
            if order is None or order.epoch < self._epoch:
                continue
            if order is not self._begun:
                self._server.begin(order.prefix)
                self._begun = order
            if self._server.position >= self._until or order is not self._order:
                continue
            self._draft(order)

    def _has_work(self) -> bool:
        if self._closing or self._request is not None:
            return True
        order = self._order
        if order is None or order.epoch < self._epoch:
            return False
        return order is not self._begun or self._server.position < self._until

    def _draft(self, order: DraftOrder) -> None:
        try:
            with abandoning(lambda: order is self._order and order.epoch >= self._epoch):
                drafted = self._server.next(order.epoch)
        except Abandoned:
            return
        if drafted.closed:
            with self._changed:
                if order is self._order:
                    self._order = None
        self._post(drafted)
