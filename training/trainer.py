"""The one training loop: Hugging Face's Trainer, quiet, with our loss, schedule, validation and checkpoints.

A step is the global batch. Its loss is a sum of shares, one from each micro-batch of each process, divided by
counts of the whole batch; so how a batch is cut changes nothing but rounding. `DistributedDataParallel` gives
each process the mean of all gradients, hence each share is multiplied by the number of processes.
"""

import contextlib
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch import Tensor
from torch.utils.data import Dataset, SequentialSampler, Subset, default_collate
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback
from transformers.utils import is_flash_attn_2_available

from ecustream.errors import ConfigError
from ecustream.scoring.products import fast_products
from training.budget import Budget, measure_step, plan_sentence
from training.checkpoints import Checkpoint, Checkpoints
from training.nats import Nats
from training.objectives import Objective, count
from training.optimisers import new_optimiser
from training.recipe import Recipe, check_recipe
from training.run import Outcome, Report, Run, ShowProgress

__all__ = ["Outcome", "process_state", "train"]


def process_state() -> PartialState:
    """This process among those that torchrun started; one alone is the first and only one.

    The others may have to wait for the first one as long as it reads traffic, which can be hours.
    """
    # Told nothing, each of several processes without an accelerator believes to be alone.
    return PartialState(cpu=not torch.accelerator.is_available(), timeout=timedelta(days=1))


def _no_progress(done: int, total: int, text: str) -> None:
    pass


def train(
    model: Any,
    data: Dataset[Mapping[str, Tensor]],
    validate: Callable[[], Nats],
    objective: Objective,
    recipe: Recipe,
    *,
    work: Path | None = None,
    resume: bool = False,
    budget: Budget | None = None,
    origin: Mapping[str, str] | None = None,
    progress: ShowProgress = _no_progress,
    report: Report | None = None,
    say: Callable[[str], None] = lambda sentence: None,
) -> Outcome:
    """Train until validation stops improving, or steps, time, data or budget end.

    Started by torchrun, it trains in all its processes; all of them must call it with the same arguments.

    Args:
        model: trained in place; only weights that require a gradient change. It ends with the weights that
            were best in validation, in eval mode, on the device that it was trained on.
        data: map-style, each item depending on its index alone; item i belongs to step i // recipe.batch + 1.
        validate: nats of the model as it is; called in every process.
        objective: the loss.
        recipe: batches and schedule; there are no more steps than `data` has whole batches.
        work: folder for checkpoints, in `work/checkpoints`; several machines must share it. None writes none.
        resume: go on from the newest checkpoint there; without one, start anew.
        budget: ends the run when no step more is covered.
        origin: what the run is made of beside its recipe, as names and values or digests; a checkpoint of
            others is refused by name.
        progress: called as (done, total, text) with a share of steps, time or budget, in the first process.
        report: called as (step, nats a line) after each validation, in the first process; True ends the run.
        say: told in the first process, before the first step, what the run will cost and where it goes on.

    Raises:
        ConfigError: the recipe cannot be followed, `data` has no whole batch, the budget does not cover one
            step, training diverges, or the newest checkpoint is of another recipe, model or origin.
        InputError: the newest checkpoint is damaged.
        OutputError: a checkpoint cannot be written, or there are some already and `resume` is not set.
    """
    arguments = _arguments(recipe)
    in_data = len(data) // recipe.batch  # type: ignore[arg-type]
    steps = in_data if recipe.max_steps is None else min(recipe.max_steps, in_data)
    if steps < 1:
        raise ConfigError(f"too little to train on: not one batch of {recipe.batch} sequences")
    files = None if work is None else Checkpoints(work / "checkpoints", origin)
    found = _open(files, recipe, resume, arguments)
    loss = "nats a token" if objective.name == "ce" else f"loss ({objective.name})"
    run = Run(model, validate, recipe, steps, arguments, files, budget, progress, report, loss)
    if found is not None:
        run.restore(found)
    done = run.progress.step
    arguments.max_steps = max(steps - done, 1)
    rest = Subset(data, range(done * recipe.batch, steps * recipe.batch))
    trainer = _Trainer(run, objective, model, arguments, rest)
    with _as_configured(model, recipe, arguments):
        if not run.progress.flops_per_step:
            micro_batches = recipe.accumulation * arguments.world_size
            run.progress.flops_per_step = micro_batches * _measure(model, data, objective, recipe, arguments)
        tokens_per_step = recipe.batch * len(data[0]["input_ids"])
        limit = None if budget is None else budget.limit
        plan = plan_sentence(run.progress.flops_per_step, steps, limit, tokens_per_step)
        run.begin(found, plan)
        if not run.stopped:
            if run.rank == 0:
                say(plan)
                if steps < recipe.warmup_steps:
                    rise = f"the learning rate rises over {recipe.warmup_steps:,} steps"
                    say(f"{rise}: it never reaches its height")
                if resume:
                    say(
                        f"resumed at step {done:,}" if found else "there is no checkpoint yet: beginning anew"
                    )
            with _saved_first(run):
                trainer.train()
        outcome = run.end()
    trainer.accelerator.unwrap_model(trainer.model_wrapped, keep_fp32_wrapper=False)
    return outcome


@contextlib.contextmanager
def _saved_first(run: Run) -> Iterator[None]:
    """Let Ctrl-C wait for the end of the step, where there are checkpoints; the second one does not wait."""
    if run.files is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)

    def ask(number: int, frame: Any) -> None:
        if run.interrupted:
            raise KeyboardInterrupt
        run.interrupted = True

    signal.signal(signal.SIGINT, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class _Trainer(Trainer):  # type: ignore[misc]
    """Hugging Face's, with our batches, loss, optimiser and clock."""

    def __init__(
        self,
        run: Run,
        objective: Objective,
        model: Any,
        arguments: TrainingArguments,
        data: Dataset[Mapping[str, Tensor]],
    ) -> None:
        self.run = run
        self.objective = objective
        super().__init__(
            model=model,
            args=arguments,
            train_dataset=data,
            data_collator=default_collate,
            callbacks=[_Steps(run)],
        )
        self.remove_callback(PrinterCallback)
        self.width = getattr(getattr(model, "config", None), "hidden_size", 0)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return SequentialSampler(self.train_dataset if train_dataset is None else train_dataset)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], None]:
        """The micro-batches of this process, counted over all processes."""
        batches = [next(epoch_iterator) for _ in range(num_batches)]
        self.run.count(batches)
        return batches, None

    def create_optimizer(self, model: Any = None) -> Any:
        """AdamW or GaLore as the recipe says, with the state of the checkpoint that is gone on with."""
        self.optimizer = new_optimiser(self.model if model is None else model, self.run.recipe)
        self.run.give_state(self.optimizer)
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """One that leaves the rate alone: it depends on time and work too, and is set before each step."""
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer or self.optimizer, lambda step: 1.0)
        return self.lr_scheduler

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
        """Forward and backward pass of one micro-batch."""
        model.train()
        inputs = self._prepare_inputs(inputs)
        with fast_products(inputs["input_ids"].numel(), self.width):
            loss = self.compute_loss(model, inputs)
            self.accelerator.backward(loss)
        return loss.detach()

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """This micro-batch's share of the loss, times the processes whose gradients are averaged."""
        loss = self.objective(model, inputs, self.run.counts)
        self.run.losses.append(loss.detach())
        return loss * self.args.world_size

    def _clip_grad_norm(self, model: Any) -> Any:
        norm = super()._clip_grad_norm(model)
        self.run.judge(norm)
        return norm

    def floating_point_ops(self, inputs: Any) -> int:
        """None: the run counts them, from a measured step."""
        return 0


class _Steps(TrainerCallback):  # type: ignore[misc]
    """Tells the run of every step."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def on_step_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        rate = self.run.rate()
        for group in more["optimizer"].param_groups:
            group["lr"] = rate

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        control.should_training_stop = self.run.step_done(more["optimizer"])


def _arguments(recipe: Recipe) -> TrainingArguments:
    """Settings of Hugging Face's Trainer; whatever would write, print or send is off."""
    arguments = TrainingArguments(
        output_dir=tempfile.gettempdir(),  # must exist; nothing is written there
        per_device_train_batch_size=1,
        gradient_accumulation_steps=recipe.accumulation,
        max_grad_norm=recipe.clip,
        max_steps=1,
        bf16=recipe.precision == "bfloat16",
        use_cpu=not torch.accelerator.is_available(),
        dataloader_pin_memory=torch.cuda.is_available(),
        remove_unused_columns=False,
        disable_tqdm=True,
        report_to="none",
        log_level="error",
        logging_strategy="no",
        logging_nan_inf_filter=False,
        eval_strategy="no",
        save_strategy="no",
        ddp_find_unused_parameters=False,
        seed=recipe.seed,
    )
    # Several GPUs in one process would be DataParallel, which knows nothing of shares; torchrun takes all.
    _ = arguments.device
    arguments._n_gpu = min(arguments._n_gpu, 1)
    check_recipe(recipe, arguments.world_size)
    arguments.per_device_train_batch_size = recipe.batch // (recipe.accumulation * arguments.world_size)
    return arguments


def _open(
    files: Checkpoints | None, recipe: Recipe, resume: bool, arguments: TrainingArguments
) -> Checkpoint | None:
    """The newest checkpoint, if the run goes on from one."""
    if files is None:
        return None
    if not resume:
        files.refuse_others()
    if arguments.process_index == 0:
        files.clean()
    steps = files.steps()
    return files.read(steps[-1], recipe, arguments.world_size) if steps else None


@contextlib.contextmanager
def _as_configured(model: Any, recipe: Recipe, arguments: TrainingArguments) -> Iterator[None]:
    """Gradient checkpointing and attention kernels for the time of training."""
    if recipe.gradient_checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    attention = getattr(getattr(model, "config", None), "_attn_implementation", None)
    flash = (
        arguments.device.type == "cuda"
        and not recipe.carried  # the past of a lane comes with a mask, which this kernel does not take
        and recipe.precision == "bfloat16"
        and attention == "sdpa"
        and is_flash_attn_2_available()
    )
    if flash:
        model.set_attn_implementation("flash_attention_2")
    try:
        yield
    finally:
        if flash:
            model.set_attn_implementation(attention)
        if recipe.gradient_checkpointing:
            model.activation_checkpointing_disable()


def _measure(
    model: Any, data: Any, objective: Objective, recipe: Recipe, arguments: TrainingArguments
) -> int:
    """FLOPs of one micro-batch."""
    items = range(recipe.batch // (recipe.accumulation * arguments.world_size))
    inputs = default_collate([data[i] for i in items])
    inputs = {k: v.to(arguments.device) for k, v in inputs.items() if k not in ("lane", "fresh")}
    low = recipe.precision == "bfloat16"

    def step() -> Tensor:
        with torch.autocast(arguments.device.type, torch.bfloat16, enabled=low):
            return objective(model, inputs, count(inputs))

    model.train()
    return measure_step(model, step)
