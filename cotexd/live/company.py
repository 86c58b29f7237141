"""All connections of one user; those that are equally far are written to in step.

A session reads how far it has come from its place. Clients that select nothing and read as fast as events come, as
nearly all do nearly always, stand on one place together: an event moves that, and costs each of them one write. Who
falls back, is set back or ends leaves with a place of its own, and its session leads it until it has caught up.
"""

from collections.abc import Iterator

from cotexd.live import session as lives
from cotexd.live import wire
from cotexd.live.connection import Connection
from cotexd.live.fanout import Fanout
from cotexd.live.news import News
from cotexd.live.ring import Ring
from cotexd.live.session import Place
from cotexd.live.socket import framed
from cotexd.operations import notices


class Company:
    """:param user_id: whose connections they are
    :param ring: to write to those in step; None where the kernel has none
    """

    __slots__ = ("_apart", "_in_step", "_place", "addressed")

    def __init__(self, user_id: str, ring: Ring | None = None) -> None:
        self.addressed = wire.addressed_to(user_id)
        self._apart: set[Connection] = set()
        self._in_step = Fanout(ring)
        self._place = Place(0, 0)
        """of those in step"""

    def __len__(self) -> int:
        return len(self._in_step) + len(self._apart)

    def __iter__(self) -> Iterator[Connection]:
        """Those of this moment, whoever comes or goes meanwhile."""
        return iter((*self._in_step, *self._apart))

    def add(self, connection: Connection) -> None:
        self._apart.add(connection)

    def discard(self, connection: Connection) -> None:
        self.part(connection)
        self._apart.discard(connection)

    def part(self, connection: Connection) -> None:
        """From now on its session alone says what it is sent."""
        if self._in_step.discard(connection):
            connection.session.place = self._place.copy()
            self._apart.add(connection)

    def publish(self, news: News) -> None:
        """Hand out what was just committed for this user."""
        apart = tuple(self._apart)
        if self._in_step:
            self._publish_in_step(news)
        for each in apart:
            each.publish(news)
            self._join(each)

    def tell(self, news: notices.News) -> None:
        """Something about the user, or about who signed in as them, has changed."""
        for each in self:
            if news.kind == notices.TOLD:
                each.told(news.text)
            elif news.kind == notices.DISABLED:
                each.close(lives.FORBIDDEN, "the user is disabled")
            elif each.session.token_session == news.text:
                each.close(lives.FORBIDDEN, "the token was revoked")

    def _publish_in_step(self, news: News) -> None:
        place = self._place
        if place.scanned < news.first and (portion := news.after(place.sent)).size <= lives.BOUND:
            # First, since who cannot take all of it parts in the middle of its write.
            place.sent = place.scanned = portion.last
            self._in_step.write(framed(portion))
            return
        for each in self._in_step:
            self.part(each)
            each.publish(news)

    def _join(self, connection: Connection) -> None:
        transport = connection.keeps_step()
        if transport is None:
            return
        if not self._in_step:
            self._place = connection.session.place
        elif connection.session.place != self._place:
            return
        connection.session.place = self._place
        self._apart.discard(connection)
        self._in_step.add(connection, transport)
