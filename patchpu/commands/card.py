"""The command `patchpu card`: the page that goes with a model that is shared."""

from patchpu.commands.options import run_command


def main(arguments):
    run_command(card, arguments)


def card(
    models: list[str],
    output: str = "README.md",
    overwrite: bool = False,
    name: str | None = None,
    repository: str | None = None,
    license: str | None = None,
):
    """Write a model card in the format of the Hugging Face Hub.

    It says, too, what is not known. Needs the extra `hub`.

    Args:
        models: A finished run folder; further ones of the same settings and other seeds give the
            spread of the results, and the model is the first one's. Or a model alone: a .keras
            file, or hf://user/name.
        output: Where to write.
        overwrite: Whether to replace the output if it is there.
        name: Title. null: the name of folder or file.
        repository: user/name on the Hub, for the lines that show how to load the model.
        license: Licence of the weights as the Hub writes it, such as cc-by-4.0. null: not
            stated.
    """
    try:
        from patchpu.card.write_card import write_card
    except ModuleNotFoundError as error:
        if error.name not in ("huggingface_hub", "jinja2"):
            raise
        raise ValueError(
            f'A model card needs the package {error.name}: pip install "keras_patchpu[hub]"'
        ) from error

    write_card(models, output, overwrite, name, repository, license)
