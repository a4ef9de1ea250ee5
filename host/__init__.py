"""The host side: a front that guests talk to, and one worker process a model. Importing it loads no mlx."""
