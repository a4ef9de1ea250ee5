"""Where openai has the answers to a chat."""

from mlxbridge.compat.openai.objects import ChatCompletion, Choice, ChoiceLogprobs

__all__ = ["ChatCompletion", "Choice", "ChoiceLogprobs"]
