"""Messages of jsonargparse become a key and a reason."""

import pytest

from tl_nla.cli.config_errors import readable

NESTED = " - Expected a <class 'NoneType'> Given value type: <class 'jsonargparse._util.NestedArg'> Given value: "
CORPUS = (
    "Parser key \"data\": Does not validate against any of the Union subtypes Subtypes: [<class 'a.DataModule'>, "
    "<class 'NoneType'>] Errors: - Problem with given class_path 'lightning_modules.ActivationDataModule': Parser key "
    "\"corpus\": Does not validate against any of the Union subtypes Subtypes: [<class 'b.CorpusConfig'>, <class "
    "'NoneType'>] Errors: - Problem with given class_path 'lightning_modules.data.settings.CorpusConfig': "
)
TYPE = (
    "Parser key \"documents\": Does not validate against any of the Union subtypes Subtypes: [<class 'int'>, <class "
    "'NoneType'>] Errors: - Expected a <class 'int'> - Expected a <class 'NoneType'> Given value type: <class 'str'> "
    "Given value: two"
)


@pytest.mark.parametrize(
    ("said", "plain"),
    [
        (f"{CORPUS}{TYPE}{NESTED}NestedArg(key='documents', val='two'){NESTED}NestedArg(key='corpus.documents', val=2)",
         "data.corpus.documents: expected int; Given value: two"),
        (f"{CORPUS}Option 'document' is not accepted{NESTED}NestedArg(key='document', val='3')",
         "data.corpus: CorpusConfig has no setting 'document'; nearest: documents"),
        ("Parser key \"seed_everything\": Expected a <class 'int'>", "seed_everything: expected int"),
        ("the following arguments are required: fit.data, fit.model",
         "the following arguments are required: fit.data, fit.model; give them in a YAML file, -c FILE.yaml (tl-nla "
         "fit --help has examples)"),
        ("unrecognized arguments: --foo 3", "unrecognized arguments: --foo 3"),
    ],
)  # fmt: skip
def test_the_key_and_the_reason(said, plain):
    assert readable(said).startswith(plain)
    assert len(readable(said)) < len(plain) + 60


def test_a_setting_that_is_far_from_any_lists_them_all():
    said = CORPUS.replace("data.settings.CorpusConfig", "VerbalizerWarmStart") + "Option 'lr' is not accepted"
    assert "'lr'; it has: model, layer" in readable(said)
