"""Embedding models and rerankers: texts or token ids in, vectors or scores out; no sockets in here.

Whose encoders these are, and why. Three ways were open:

- mlx-embeddings has all families. It depends on mlx-vlm, and so on OpenCV, mlx-audio, datasets and a web server, about 1 GB
  that no text needs; and it pools each family in one way (every BERT by the mean, normalized), whatever a folder says.
- mlx_lm, which is here anyway, has the decoders that embedding models are made from (Qwen 3, Gemma 3), kept well, but no
  encoder. Its layers take a mask, so that bidirectional attention needs nothing more than a walk over them (``decoder``).
- The encoders (``bert``, ``modernbert``) are some 150 lines each on ``mlx.nn``, which has every part they need, and
  have not changed since they were published.

So decoders are mlx_lm's layers, and encoders are written here, in modules that bear the names of the published weights:
any checkpoint of ``transformers`` loads without a table of names, quantized ones by mlx_lm's key names as well.

What a folder's files say is done, as sentence-transformers does it: pooling, projections, normalizing, prompts, limits.
Where they say nothing there is no guess: a vector pooled otherwise looks as good as the right one, and finds nothing.

::

    request ── tokenizer ── batching ── bert │ modernbert │ decoder ── pooling ── projection ── vectors   (encoder)
               (limits)     (by length)                            └── head ─────────────────── scores    (reranker)

Calls of many guests share batches: ``engine`` says how.
"""
