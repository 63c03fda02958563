from __future__ import annotations

from ppi_med import naming


def test_names_are_unique() -> None:
    names = [*naming.LOSSES, *naming.TAGS, naming.VAL_AUC, naming.TEST_AUC, naming.SEG_DICE_UNION]
    assert len(names) == len(set(names))


def test_direction_follows_the_measure() -> None:
    assert {naming.direction(name) for name in naming.LOSSES} == {-1}
    assert naming.direction(naming.VAL_LOSS) == -1
    assert naming.direction(naming.VAL_AUC) == naming.direction(naming.SEG_DICE_UNION) == 1


def test_full_names_are_built_from_part_and_measure() -> None:
    assert naming.metric("val", naming.AUC) == naming.VAL_AUC == "val/auc"
    assert naming.metric("test", naming.AUC) == naming.TEST_AUC == "test/auc"
