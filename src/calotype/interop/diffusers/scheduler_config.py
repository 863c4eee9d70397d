"""The noise schedule and what the network predicts, as the configuration of a scheduler of diffusers, and back.

What a scheduler says beyond that (how steps are spaced, the order of a solver, clipping) belongs to sampling, which is
a choice of its own here: it is written as `LatentDiffusion.sample` spaces its steps, and not read.
"""

from collections.abc import Mapping
from typing import Any

from calotype.diffusion.prediction import Prediction
from calotype.diffusion.schedule import Betas, Cosine, Flow, Linear, NoiseSchedule, ScaledLinear, ZeroTerminalSNR
from calotype.diffusion.schedule.table import Table
from calotype.interop.diffusers.layout import Layout, refuse
from calotype.utils.errors import UserError

PREDICTIONS: dict[Prediction, str] = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}
BETAS: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "trained_betas": None,
    "rescale_betas_zero_snr": False,
    "prediction_type": "epsilon",
}
SAMPLING = frozenset(
    """
    algorithm_type base_image_seq_len base_shift clip_sample clip_sample_range disable_corrector
    dynamic_thresholding_ratio euler_at_final final_sigmas_type flow_shift interpolation_type
    lambda_min_clipped lower_order_final max_image_seq_len max_shift predict_x0 sample_max_value
    set_alpha_to_one shift shift_terminal sigma_max sigma_min skip_prk_steps solver_order solver_p
    solver_type steps_offset stochastic_sampling tensor_format thresholding time_shift_type
    timestep_spacing timestep_values use_beta_sigmas use_dynamic_shifting use_exponential_sigmas
    use_karras_sigmas use_lu_lambdas variance_type
    """.split()  # noqa: SIM905 (one per line would be forty lines)
)
FIXED = {"use_flow_sigmas": (False,), "timestep_type": ("discrete",)}
DDIM = Layout(
    name="DDIMScheduler",
    mapped=BETAS | {"clip_sample": False, "set_alpha_to_one": True, "steps_offset": 0, "timestep_spacing": "trailing"},
    fixed={"thresholding": (False,)},
)
TABLES = {
    name: Layout(name=name, mapped=BETAS, fixed=FIXED, inert=SAMPLING)
    for name in (
        "DDIMScheduler",
        "DDPMScheduler",
        "DEISMultistepScheduler",
        "DPMSolverMultistepScheduler",
        "DPMSolverSinglestepScheduler",
        "EulerAncestralDiscreteScheduler",
        "EulerDiscreteScheduler",
        "LMSDiscreteScheduler",
        "PNDMScheduler",
        "UniPCMultistepScheduler",
    )
}
FLOW = Layout(
    name="FlowMatchEulerDiscreteScheduler",
    mapped={"shift": 1.0},
    fixed={"num_train_timesteps": (1000,), "invert_sigmas": (False,)},
    inert=SAMPLING,
)


def scheduler_to_diffusers(schedule: NoiseSchedule, prediction: Prediction) -> dict[str, Any]:
    """Return the scheduler_config.json with which a deterministic sample is that of ``DDIM`` here.

    A table's steps are ``trailing`` (in diffusers whole numbers: the same where their number divides the table's
    length), those of a flow ``linspace``.

    Raises:
        UserError: no scheduler knows this schedule with this prediction.
    """
    if isinstance(schedule, Flow):
        if prediction != "flow":
            raise refuse(f"prediction {prediction!r} on a flow", f"its {FLOW.name} takes the velocity eps - x0")
        return FLOW.write()
    if not isinstance(schedule, Table):
        raise refuse(f"schedule {type(schedule).__name__}", "its schedulers know tables of betas and flow")
    if prediction not in PREDICTIONS:
        raise refuse(f"prediction {prediction!r} on a table", f"its {DDIM.name} takes {', '.join(PREDICTIONS)}")
    shared = {"num_train_timesteps": schedule.timesteps, "prediction_type": PREDICTIONS[prediction]}
    if isinstance(schedule, ZeroTerminalSNR):
        schedule, shared["rescale_betas_zero_snr"] = schedule.of, True
    match schedule:
        case Linear(beta_start=start, beta_end=end):
            return DDIM.write(**shared, beta_schedule="linear", beta_start=start, beta_end=end)
        case ScaledLinear(beta_start=start, beta_end=end):
            return DDIM.write(**shared, beta_schedule="scaled_linear", beta_start=start, beta_end=end)
        case Cosine(offset=0.008):
            return DDIM.write(**shared, beta_schedule="squaredcos_cap_v2")
    return DDIM.write(**shared, trained_betas=schedule.betas().tolist())


def scheduler_from_diffusers(data: Mapping[str, Any], where: str) -> tuple[NoiseSchedule, Prediction]:
    """Return the noise schedule and the prediction that a scheduler_config.json describes.

    Raises:
        UserError: the class or one of its options has no counterpart here.
    """
    name = data.get("_class_name", "")
    if name == FLOW.name:
        FLOW.read(data, where)
        return Flow(), "flow"
    if name not in TABLES:
        raise UserError(f"{where}: {name or 'no class'} is not one of {', '.join([*TABLES, FLOW.name])}")
    values = TABLES[name].read(data, where)
    predictions = {theirs: ours for ours, theirs in PREDICTIONS.items()}
    if values["prediction_type"] not in predictions:
        raise UserError(f"{where}: prediction_type {values['prediction_type']!r} has no counterpart in calotype")
    table = _table(values, where)
    if values["rescale_betas_zero_snr"]:
        table = ZeroTerminalSNR(of=table)
    return table, predictions[values["prediction_type"]]


def _table(values: Mapping[str, Any], where: str) -> Any:
    if values["trained_betas"] is not None:
        return Betas(values=tuple(values["trained_betas"]))
    timesteps = values["num_train_timesteps"]
    ends = {"beta_start": values["beta_start"], "beta_end": values["beta_end"]}
    match values["beta_schedule"]:
        case "linear":
            return Linear(timesteps=timesteps, **ends)
        case "scaled_linear":
            return ScaledLinear(timesteps=timesteps, **ends)
        case "squaredcos_cap_v2":
            return Cosine(timesteps=timesteps)
    raise UserError(f"{where}: beta_schedule {values['beta_schedule']!r} has no counterpart in calotype")
