"""Which checks a config has to pass, of flags that must go together; each is in flag_checks.py."""

from r2d2_tf.backbones import BACKBONES, names
from r2d2_tf.config import beginnings, flag_checks
from r2d2_tf.config.identity import Config
from r2d2_tf.data.datasets import DATASETS, OWN_SETS, PHOTOGRAPH_SIZE, TFDS_PREFIX
from r2d2_tf.data.splits import check_num_labels, parse_part


def check(config: Config) -> None:
    """Raises ValueError, with what came, what is allowed and how to mend it, for flags that do not go together."""
    flag_checks.check_weights_of_losses(config.alpha, config.beta, config.class_loss)
    flag_checks.check_table_is_learned(config.rounds, config.finetune_epochs, config.finetune_from)
    beginnings.check_start(
        config.stage_1_from,
        config.stage_2_from,
        config.warm_start,
        has_rounds=bool(config.rounds),
        has_later_stages=bool(config.rounds or config.finetune_epochs),
    )
    _check_data_flags(config)
    trained = [not config.warm_start, bool(config.rounds), bool(config.finetune_epochs)]
    flag_checks.check_result_stage(config.result_stage, trained)
    flag_checks.check_cosine("supervised", config.supervised_epochs, config.supervised_cosine_epochs)
    flag_checks.check_cosine("finetune", config.finetune_epochs, config.finetune_cosine_epochs)
    flag_checks.check_name(config.name)
    if config.backbone not in BACKBONES:
        names.check_form(config.backbone)
    flag_checks.check_weights(config.weights, config.backbone)
    flag_checks.check_freezing(config.freeze_epochs, config.weights, config.supervised_epochs)
    flag_checks.check_statistics(config.batch_norm_statistics, config.weights, config.warm_start)
    if config.trainable != flag_checks.ALL:
        of_images = ("cutout", "rand_augment") if config.trainable == flag_checks.HEAD else ()
        unseen = {name: getattr(config, name) for name in ("freeze_epochs", *of_images)}
        flag_checks.check_features(config.trainable, config.weights, config.warm_start, unseen)
    others = ("stage_1_from", "stage_2_from", "warm_start")
    paths = ("data_dir", "labels", "split_file", "evaluate_on", *others, "weights", "run_dir")
    flag_checks.check_homes({name: getattr(config, name) for name in paths})
    flag_checks.check_cpus(config.strategy, config.num_logical_cpus)
    flag_checks.check_soft_labels(config.soft_labels, config.labels, config.label_noise, config.learn_labeled_rows)
    config.check_replicas(max(1, config.num_logical_cpus if config.strategy == "mirrored" else 1))
    _ = config.parsed_rounds, config.labeled_per_batch, flag_checks.parsed_rand_augment(config.rand_augment)
    parse_part(config.held_out)


def _check_data_flags(config: Config) -> None:
    spec = DATASETS.get(config.dataset)
    flag_checks.check_dataset_name(config.dataset, TFDS_PREFIX)
    flag_checks.check_labels(
        config.dataset,
        is_own=config.dataset in OWN_SETS,
        labels=config.labels,
        split_file=config.split_file,
        num_labels=0 if config.num_labels == type(config).num_labels else config.num_labels,
        test_fraction=config.test_fraction,
    )
    if spec is None:
        # The rest is known once the data are looked at: specs.spec_of.
        return
    if config.num_labels and not config.labels:
        check_num_labels(config.num_labels, spec.num_classes, spec.num_train)
    flag_checks.check_image_size(config.dataset, spec.photographs or config.image_size == PHOTOGRAPH_SIZE)
    shape = (config.image_size, config.image_size, 3) if spec.photographs else spec.image_shape
    flag_checks.check_augmentation(translate=config.translate, cutout=config.cutout, image_shape=shape)
