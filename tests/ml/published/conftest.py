from tests.ml.inference.conftest import bundle, network

__all__ = ["bundle", "network"]
