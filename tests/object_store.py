"""A store of objects in this process, with the interface of S3."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from upath import UPath

_KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


@contextmanager
def object_store(env: pytest.MonkeyPatch) -> Iterator[UPath]:
    """Start a store, and let clients in this process use it; gives a new bucket."""
    from moto.server import ThreadedMotoServer
    from s3fs import S3FileSystem

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {**_KEYS, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}.items():
        env.setenv(name, value)
    S3FileSystem.clear_instance_cache()  # those of another store
    bucket = f"bucket-{uuid.uuid4().hex}"
    try:
        S3FileSystem().mkdir(bucket)
        yield UPath(f"s3://{bucket}")
    finally:
        S3FileSystem.clear_instance_cache()
        server.stop()
