"""Requests that run together are gathered until the last one is there."""
from __future__ import annotations

from typing import Any, List, Optional

from . import _frames as f


def key_of(frame: f.Frame) -> Optional[bytes]:
    return dict(f.fields(frame.meta)).get(f.TAG_BATCH_KEY)


class Gathering:
    """The members of a batch whose last one is still to come."""

    def __init__(self, most: int) -> None:
        self.most, self.granted = most, False
        self.members: List[Any] = []
        self.first: Optional[f.Frame] = None

    def breach(self, frame: f.Frame) -> str:
        """What hasupd did wrong with this member, or ""."""
        if frame.flags & f.FLAG_MORE and not self.granted:
            return "a batch came, and batches were not granted"
        if self.members and len(self.members) == self.most:
            return "a batch has more members than this worker's max_batch"
        if (self.first or frame.flags & f.FLAG_MORE) and frame.flags & f.FLAG_RESUME:
            return "a resumed request stands in a batch"
        if self.first and (self.first.flags ^ frame.flags) & f.FLAG_REPLAY:
            return "a batch holds replayed requests and others"
        if self.first and key_of(self.first) != key_of(frame):
            return "a batch holds requests of several batch keys"
        return ""

    def add(self, request: Any, frame: f.Frame) -> List[Any]:
        """All members where this was the last one, else none."""
        why = self.breach(frame)
        if why:
            raise f.ProtocolError(why)
        self.members.append(request)
        self.first = self.first or frame
        if frame.flags & f.FLAG_MORE:
            return []
        whole, self.members, self.first = self.members, [], None
        return whole
