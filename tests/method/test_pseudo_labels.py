import numpy as np
import pytest
import tensorflow as tf
from conftest import table_values

from r2d2_tf.data.image_data import UNLABELED
from r2d2_tf.method import pseudo_labels
from r2d2_tf.method.pseudo_labels import PseudoLabelTable

LABELS = np.array([2, UNLABELED, 0, UNLABELED, UNLABELED])
ALL = tf.range(5, dtype=tf.int64)


@pytest.fixture
def table():
    return PseudoLabelTable(LABELS, 3)


def test_labeled_rows_start_at_k_times_onehot_and_the_others_at_zero(table):
    expected = np.zeros((5, 3))
    expected[0, 2] = expected[2, 0] = 10.0
    np.testing.assert_array_equal(table_values(table), expected)


def test_predicting_writes_unlabeled_rows_only_and_counts_changed_classes(table):
    logits = np.arange(15.0).reshape(5, 3)
    logits[3] = [9.0, 8.0, 7.0]
    changes = table.argmax_changes(ALL, tf.constant(logits))
    table.repredict(ALL, tf.constant(logits))
    expected = np.where((LABELS == UNLABELED)[:, None], logits, [[0, 0, 10], [0, 0, 0], [10, 0, 0], [0, 0, 0], [0, 0, 0]])
    np.testing.assert_array_equal(table_values(table), expected)
    assert int(changes) == 2  # The largest of row 3 stays class 0, as in a row of zeros.


def test_descending_is_eq_7_at_the_reference_batch_and_leaves_labeled_rows_alone(table):
    before = table_values(table)
    gradient = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)
    rows = np.array([4, 0, 1])
    table.descend(tf.constant(rows), tf.constant(gradient), 4000.0)
    expected = before.copy()
    expected[[4, 1]] -= 4000.0 / 512.0 * gradient[[0, 2]]
    np.testing.assert_allclose(table_values(table), expected, rtol=1e-6)
    np.testing.assert_array_equal(table_values(table)[[0, 2, 3]], before[[0, 2, 3]])


def test_a_labeled_row_that_is_learned_takes_its_share_of_the_step_each_time_it_comes(table):
    before = table_values(table)
    gradient = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)
    table.labeled_step = 0.25
    table.descend(tf.constant([0, 1, 0]), tf.constant(gradient), 512.0)
    expected = before.copy()
    expected[0] -= 0.25 * (gradient[0] + gradient[2])
    expected[1] -= gradient[1]
    np.testing.assert_allclose(table_values(table), expected, rtol=1e-6, atol=1e-6)


def test_predicting_leaves_a_labeled_row_that_is_learned_alone(table):
    before = table_values(table)
    table.labeled_step = 0.25
    table.repredict(ALL, tf.ones([5, 3]))
    np.testing.assert_array_equal(table_values(table)[[0, 2]], before[[0, 2]])


def test_a_gradient_that_is_not_finite_cannot_reach_a_labeled_row(table):
    before = table_values(table)
    table.descend(tf.constant([0, 2], tf.int64), tf.fill([2, 3], np.nan), 4000.0)
    np.testing.assert_array_equal(table_values(table), before)


def test_the_sum_of_a_row_is_kept_from_its_prediction(table):
    logits = tf.constant(np.arange(15.0).reshape(5, 3), tf.float32)
    table.repredict(ALL, logits)
    table.descend(ALL, tf.ones([5, 3]), 512.0)
    np.testing.assert_array_equal(table.predicted_sums(np.array([1, 3, 4])), [12.0, 30.0, 39.0])


def test_an_empty_batch_is_allowed(table):
    before = table_values(table)
    table.descend(tf.zeros([0], tf.int64), tf.zeros([0, 3]), 1.0)
    assert int(table.argmax_changes(tf.zeros([0], tf.int64), tf.zeros([0, 3]))) == 0
    table.repredict(tf.zeros([0], tf.int64), tf.zeros([0, 3]))
    np.testing.assert_array_equal(table_values(table), before)


def test_the_saved_file_is_plain_and_holds_ids_labels_and_logits(table, tmp_path):
    table.repredict(ALL, tf.constant(np.arange(15.0).reshape(5, 3)))
    table.save(tmp_path / "t.npz", ["a", "b", "c", "d", "e"])
    with np.load(tmp_path / "t.npz", allow_pickle=False) as file:
        assert file["ids"].tolist() == ["a", "b", "c", "d", "e"]
        np.testing.assert_array_equal(file["given_labels"], LABELS)
        np.testing.assert_array_equal(file["pseudo_logits"], table_values(table))


def test_walking_covers_all_rows_in_chunks_of_so_many_bytes(monkeypatch):
    monkeypatch.setattr(pseudo_labels, "_CHUNK_BYTES", 4 * 3 * 2)
    chunks = [rows.tolist() for rows, logits in PseudoLabelTable(LABELS, 3).walk()]
    assert chunks == [[0, 1], [2, 3], [4]]


def test_a_row_may_be_larger_than_a_chunk(monkeypatch):
    monkeypatch.setattr(pseudo_labels, "_CHUNK_BYTES", 1)
    table = PseudoLabelTable(LABELS, 3)
    assert table_values(table).shape == (5, 3)
    assert table_values(table)[2].tolist() == [10.0, 0.0, 0.0], "labeled rows are written in chunks too"


@pytest.mark.parametrize("label", [-2, 3])
def test_a_label_out_of_range_is_named_with_its_row(label):
    with pytest.raises(ValueError, match=f"row 1 has label {label}"):
        PseudoLabelTable(np.array([0, label]), 3)


@pytest.mark.parametrize("labels", [["cat", "dog"], np.eye(3), [0.5, 1.0], [0.0, np.nan]], ids=str)
def test_labels_that_are_no_numbers_of_classes_are_refused_with_a_way_to_make_them(labels):
    with pytest.raises(ValueError, match=r"must be numbers of classes.*onehot.argmax\(1\)"):
        PseudoLabelTable(labels, 3)


def test_whole_floats_are_numbers_of_classes():
    assert PseudoLabelTable([2.0, -1.0], 3).labels.tolist() == [2, -1]
