"""The tiny models of the engine's tests."""

from tests.drafters.engine.conftest import pairs, prompts

__all__ = ["pairs", "prompts"]
