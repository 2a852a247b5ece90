from tagged_images import compiled, few_steps, folder, model, paths  # noqa: F401 they are fixtures
