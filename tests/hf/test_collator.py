"""PackedCollator with transformers: the batch of its own collator, and training that equals that on padded batches."""

import os
from importlib.util import find_spec

import numpy as np
import pytest

if "transformers" not in os.environ.get("SCREE_REQUIRE", "").split(","):
    pytest.importorskip("transformers", reason="transformers isn't installed")
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("scree_torch")

import scree  # noqa: E402
import scree.hf  # noqa: E402
from scree.hf import PackedCollator  # noqa: E402

from .models import GROUPED, SIZES  # noqa: E402

LENGTHS = (7, 1, 12, 5)


@pytest.fixture(autouse=True, scope="module")
def _registered():
    scree.hf.register()


@pytest.fixture(autouse=True)
def _losses_of_float64_are_computed_in_it(monkeypatch):
    """transformers' losses go by way of float32, which would be no reference."""
    single = torch.Tensor.float
    monkeypatch.setattr(torch.Tensor, "float", lambda x: x if x.dtype == torch.float64 else single(x))


def examples(lengths=LENGTHS, labels=None, make=list, seed=0):
    """Return token ids and, of so many kinds, labels, the second of each row ignored."""
    rng = np.random.default_rng(seed)
    rows = [{"input_ids": rng.integers(3, 99, length).tolist()} for length in lengths]
    for row in rows if labels else ():
        row["labels"] = rng.integers(0, labels, len(row["input_ids"])).tolist()
        row["labels"][1:2] = [-100] * len(row["labels"][1:2])
    return [{name: make(x) for name, x in row.items()} for row in rows]


def padded(rows):
    """Return the same rows padded on the right; without labels of their own they learn the next token."""
    side_by_side = torch.nn.utils.rnn.pad_sequence
    ids = [torch.as_tensor(row["input_ids"]) for row in rows]
    labels = [torch.as_tensor(row.get("labels", row["input_ids"])) for row in rows]
    return {
        "input_ids": side_by_side(ids, batch_first=True),
        "attention_mask": side_by_side([torch.ones_like(row) for row in ids], batch_first=True),
        "labels": side_by_side(labels, batch_first=True, padding_value=-100),
    }


def model_of(kind, config, attention, **options):
    torch.manual_seed(0)
    return kind.from_config(config, attn_implementation=attention, **options).to(torch.float64)


def llama(attention):
    return model_of(transformers.AutoModelForCausalLM, transformers.LlamaConfig(**GROUPED), attention)


def check_equal(ours, theirs):
    assert set(ours) == set(theirs)
    for name, value in theirs.items():
        if isinstance(value, int):
            assert type(ours[name]) is int
            assert ours[name] == value
        else:
            assert ours[name].dtype == value.dtype, name
            assert torch.equal(ours[name], value), name


# ---------------------------------------------------------------------- the batch


@pytest.mark.parametrize("make", [list, np.array, torch.tensor])
@pytest.mark.parametrize("labels", [None, 9])
@pytest.mark.parametrize("ignore_index", [-100, -1])
@pytest.mark.parametrize("more", [{}, {"position_ids_start": 2}, {"return_seq_idx": True}], ids=str)
def test_the_batch_is_that_of_transformers_own_collator(make, labels, ignore_index, more):
    rows = examples(labels=labels, make=make)
    theirs = transformers.DataCollatorWithFlattening(
        return_flash_attn_kwargs=True, separator_id=ignore_index, return_tensors="pt", **more
    )
    check_equal(PackedCollator(ignore_index=ignore_index, **more)(rows), theirs(rows))


def tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {"[UNK]": 0, "slate": 1, "clay": 2, "tuff": 3}
    fast = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    fast.pre_tokenizer = pre_tokenizers.Whitespace()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=fast, pad_token="[UNK]", eos_token="tuff")


def test_what_a_tokeniser_returns_is_an_example():
    encodings = [tokenizer()(text, return_token_type_ids=True) for text in ("slate clay", "tuff")]
    assert {"attention_mask", "token_type_ids"} < set(encodings[0])
    batch = PackedCollator()(encodings)
    assert batch["input_ids"].tolist() == [[1, 2, 3]]
    assert batch["token_type_ids"].tolist() == [[0, 0, 0]]


def test_mistakes_with_a_tokeniser_are_named():
    with pytest.raises(scree.ShapeError, match=r'examples\[0\]\["input_ids"\] has shape \(1, 2\), a batch of one'):
        PackedCollator()([tokenizer()("slate clay", return_tensors="pt")])
    with pytest.raises(scree.ShapeError, match=r"has shape \(1, 2\), a batch of one; tokenise .* one text at a time"):
        PackedCollator()([tokenizer()(["slate clay"])])
    with pytest.raises(
        scree.ArgumentError, match=r'examples\[0\]\["attention_mask"\] is 0 at token 2: .*padding=False'
    ):
        PackedCollator()([tokenizer()("slate clay", padding="max_length", max_length=4)])
    with pytest.raises(scree.ArgumentTypeError, match=r"got one mapping; give \[dataset\[i\] for i in rows\]"):
        PackedCollator()(tokenizer()(["slate clay", "tuff"]))


@pytest.mark.skipif(
    find_spec("datasets") is None and "trl" not in os.environ.get("SCREE_REQUIRE", "").split(","),
    reason="datasets isn't installed",
)
@pytest.mark.parametrize("form", [None, "torch", "numpy"])
def test_rows_of_datasets_are_examples(form):
    import datasets

    rows = [{"input_ids": [5, 6, 7]}, {"input_ids": []}, {"input_ids": [8]}]
    data = datasets.Dataset.from_list(rows).with_format(form)
    loader = torch.utils.data.DataLoader(data, batch_size=3, collate_fn=PackedCollator())
    check_equal(next(iter(loader)), PackedCollator()(rows))


# ---------------------------------------------------------------------- training


def loss_and_gradients(model, batch):
    loss = model(**batch).loss
    weights = [*model.parameters()]
    return loss, torch.autograd.grad(loss, weights, allow_unused=True)


def check_trains_alike(packed, padded):
    """Check losses and gradients to 1e-12."""
    torch.testing.assert_close(packed[0], padded[0], rtol=1e-12, atol=0)
    for got, want in zip(packed[1], padded[1], strict=True):
        assert (got is None) == (want is None)
        if got is not None:
            torch.testing.assert_close(got, want, rtol=0, atol=1e-12 * max(1, want.abs().max().item()))


@pytest.mark.parametrize("labels", [None, 99])
def test_a_language_model_learns_the_same_from_packed_rows_with_a_tail(labels):
    rows = examples(labels=labels)
    batch = PackedCollator(multiple_of=16)(rows)
    assert batch["input_ids"].shape == (1, 32)
    check_trains_alike(loss_and_gradients(llama("scree"), batch), loss_and_gradients(llama("sdpa"), padded(rows)))


@pytest.mark.parametrize(
    ("kind", "start"), [(transformers.BertConfig, 0), (transformers.RobertaConfig, 2)], ids=["bert", "roberta"]
)
def test_token_classification_learns_the_same_from_packed_rows_with_a_tail(kind, start):
    rows = examples(labels=4)
    sizes = SIZES | {"num_labels": 4, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    sizes |= {"pad_token_id": 1} if start else {}
    trained = []
    for attention in ("scree", "sdpa"):
        model = model_of(transformers.AutoModelForTokenClassification, kind(**sizes), attention)
        packed = PackedCollator(labels="aligned", multiple_of=16, position_ids_start=start)(rows)
        batch = packed if attention == "scree" else padded(rows)
        if start and attention == "sdpa":
            batch["input_ids"][batch["attention_mask"] == 0] = 1
        trained.append(loss_and_gradients(model, batch))
    check_trains_alike(*trained)


@pytest.mark.skipif(
    find_spec("accelerate") is None and "accelerate" not in os.environ.get("SCREE_REQUIRE", "").split(","),
    reason="accelerate isn't installed, which the Trainer needs",
)
@pytest.mark.parametrize("bins", [False, True], ids=["plain batches", "bins of a packing"])
def test_the_trainer_has_the_losses_of_padded_training(bins, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    rows = examples((7, 1, 12, 5, 3, 9, 2, 4, 6, 8))
    packing = scree.packing.pack_lengths([len(row["input_ids"]) for row in rows], 16, "next", over="error")
    assert len(packing) >= 4
    data = [[rows[i] for i in bin] for bin in packing] if bins else rows
    found = {}
    for attention, collate in {"scree": PackedCollator(multiple_of=8), "sdpa": padded}.items():
        of_bins = (lambda given: padded(given[0])) if bins and collate is padded else collate
        arguments = transformers.TrainingArguments(
            output_dir=str(tmp_path / attention),
            per_device_train_batch_size=1 if bins else 2,
            gradient_accumulation_steps=2,
            max_steps=2,
            logging_steps=1,
            learning_rate=0.1,
            optim="sgd",
            train_sampling_strategy="sequential",
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
        )
        model = llama(attention)
        trainer = transformers.Trainer(model, arguments, data_collator=of_bins, train_dataset=data)
        trainer.train()
        losses = [logged["loss"] for logged in trainer.state.log_history if "loss" in logged]
        found[attention] = losses, torch.cat([weight.detach().flatten() for weight in model.parameters()])
    (packed, ours), (wanted, theirs) = found.values()
    assert len(packed) == 2
    assert packed[0] != packed[1]
    np.testing.assert_allclose(packed, wanted, rtol=1e-12)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.skipif(
    find_spec("trl") is None and "trl" not in os.environ.get("SCREE_REQUIRE", "").split(","),
    reason="trl isn't installed",
)
@pytest.mark.filterwarnings("ignore:.gradient_checkpointing. is deprecated:FutureWarning")  # trl's own default
def test_trls_trainer_has_the_losses_of_its_own_collator(tmp_path):
    import datasets
    import trl

    datasets.disable_progress_bars()
    texts = ["slate clay slate tuff", "tuff clay", "clay", "tuff slate tuff slate clay clay"]
    found = []
    for attention, collate in {"scree": PackedCollator(multiple_of=8), "sdpa": None}.items():
        arguments = trl.SFTConfig(
            output_dir=str(tmp_path / attention),
            per_device_train_batch_size=2,
            num_train_epochs=2,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
            bf16=False,
        )
        data = datasets.Dataset.from_dict({"text": texts})
        model = llama(attention).to(torch.float32)  # in which trl's loss is computed, whatever the model's dtype
        trainer = trl.SFTTrainer(
            model, arguments, train_dataset=data, processing_class=tokenizer(), data_collator=collate
        )
        trainer.train()
        found.append([logged["loss"] for logged in trainer.state.log_history if "loss" in logged])
    assert len(found[0]) == 4
    np.testing.assert_allclose(*found, rtol=1e-5)
