"""What can go wrong for who asks about the state? Ray's two exceptions, under Ray's names."""

from __future__ import annotations


class RayStateApiException(Exception):
    """The question could not be answered, or not wholly."""


class ServerUnavailable(RayStateApiException):
    """The session does not answer at all."""


class DataSourceUnavailable(Exception):
    """A part of the session does not answer."""
