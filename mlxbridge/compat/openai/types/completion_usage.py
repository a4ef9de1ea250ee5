"""Where openai has what an answer took."""

from mlxbridge.compat.openai.objects import CompletionUsage
from mlxbridge.compat.openai.objects import TokensDetails as CompletionTokensDetails
from mlxbridge.compat.openai.objects import TokensDetails as PromptTokensDetails

__all__ = ["CompletionTokensDetails", "CompletionUsage", "PromptTokensDetails"]
