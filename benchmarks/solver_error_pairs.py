"""What solver_error.py compares: our solvers with their counterparts in diffusers, and on grids of our own."""

from solver_error_peers import FLOW, HEUN, LEVELS, MULTISTEP, PLUS, TABLE, UNIPC, Peer, peer

from calotype.diffusion import (
    DDIM,
    PLMS,
    DPMSolver,
    EDMStochastic,
    Euler,
    Heun,
    NoiseSchedule,
    Solver,
    UniPC,
)

PAIRS: dict[str, dict[str, tuple[Solver, Peer]]] = {
    "first order": {
        "DDIM": (DDIM(), peer("DDIMScheduler", clip_sample=False)),
        "Euler": (Euler(), peer("EulerDiscreteScheduler", coordinates="z")),
        "DPM-Solver++ 1": (DPMSolver(order=1), peer(MULTISTEP, solver_order=1)),
    },
    "DPM-Solver++, multistep": {
        "2M": (DPMSolver(), peer(MULTISTEP)),
        "2M, Karras": (DPMSolver(), peer(MULTISTEP, use_karras_sigmas=True)),
        "3M, half curvature": (DPMSolver(order=3, curvature="half"), peer(MULTISTEP, solver_order=3)),
    },
    "DPM-Solver on eps, multistep": {
        f"order {order}": (
            DPMSolver(order=order, algorithm="dpm_solver", curvature="half"),
            peer(MULTISTEP, solver_order=order, algorithm_type="dpmsolver", final_sigmas_type="sigma_min"),
        )
        for order in (2, 3)
    },
    "DPM-Solver++, single steps": {
        f"order {order}": (
            DPMSolver(order=order, method="singlestep"),
            peer("DPMSolverSinglestepScheduler", solver_order=order),
        )
        for order in (2, 3)
    },
    "UniPC": {
        **{
            f"order {order}, {b}": (UniPC(order=order, variant=b), peer(UNIPC, solver_order=order, solver_type=b))
            for order, b in ((1, "bh2"), (2, "bh2"), (3, "bh2"))
        },
        "order 2, bh1, to t = 0": (
            UniPC(variant="bh1"),
            peer(UNIPC, solver_type="bh1", final_sigmas_type="sigma_min"),
        ),
        "order 2, Karras": (UniPC(), peer(UNIPC, use_karras_sigmas=True)),
    },
    "Heun": {
        "in sigma / alpha": (
            EDMStochastic(churn=0),
            peer("HeunDiscreteScheduler", coordinates="z", evaluations=HEUN),
        ),
    },
    "PLMS": {
        "PLMS": (PLMS(), peer("PNDMScheduler", skip_prk_steps=True, set_alpha_to_one=True, evaluations=PLUS)),
    },
    "flow": {
        "Euler": (Euler(), peer("FlowMatchEulerDiscreteScheduler", FLOW)),
        "Heun": (Heun(), peer("FlowMatchHeunDiscreteScheduler", FLOW, evaluations=HEUN)),
        "2M": (DPMSolver(), peer(MULTISTEP, FLOW)),
        "UniPC 2": (UniPC(), peer(UNIPC, FLOW)),
    },
    "EDM": {
        "Euler": (Euler(), peer("EDMEulerScheduler", LEVELS, coordinates="z")),
        "2M": (DPMSolver(), peer("EDMDPMSolverMultistepScheduler", LEVELS, coordinates="z")),
        "3M, half curvature": (
            DPMSolver(order=3, curvature="half"),
            peer("EDMDPMSolverMultistepScheduler", LEVELS, coordinates="z", solver_order=3),
        ),
    },
}
OWN: dict[str, dict[str, tuple[Solver, NoiseSchedule, str]]] = {
    "first order": {"DDIM, log_snr": (DDIM(), TABLE, "log_snr")},
    "DPM-Solver++, multistep": {
        "2M, default": (DPMSolver(), TABLE, "trailing"),
        "2M, log_snr": (DPMSolver(), TABLE, "log_snr"),
        "2M, karras": (DPMSolver(), TABLE, "karras"),
        "3M, log_snr": (DPMSolver(order=3), TABLE, "log_snr"),
        "3M, half curvature, log_snr": (DPMSolver(order=3, curvature="half"), TABLE, "log_snr"),
    },
    "UniPC": {
        "order 2, log_snr": (UniPC(), TABLE, "log_snr"),
        "order 2, karras": (UniPC(), TABLE, "karras"),
        "order 3, log_snr": (UniPC(order=3), TABLE, "log_snr"),
    },
    "Heun": {
        "Heun, trailing": (Heun(), TABLE, "trailing"),
        "Heun, log_snr": (Heun(), TABLE, "log_snr"),
        "in sigma / alpha, karras": (EDMStochastic(churn=0), TABLE, "karras"),
    },
    "PLMS": {
        "iPNDM, trailing": (PLMS(start="euler"), TABLE, "trailing"),
        "variable steps, trailing": (PLMS(start="euler", weights="variable_steps"), TABLE, "trailing"),
        "variable steps, karras": (PLMS(start="euler", weights="variable_steps"), TABLE, "karras"),
    },
    "flow": {
        "2M, trailing": (DPMSolver(), FLOW, "trailing"),
        "2M, log_snr": (DPMSolver(), FLOW, "log_snr"),
        "UniPC 2, trailing": (UniPC(), FLOW, "trailing"),
        "UniPC 2, log_snr": (UniPC(), FLOW, "log_snr"),
    },
    "EDM": {
        "Heun": (EDMStochastic(churn=0), LEVELS, "karras"),
        "3M": (DPMSolver(order=3), LEVELS, "karras"),
        "UniPC 2": (UniPC(), LEVELS, "karras"),
        "UniPC 3": (UniPC(order=3), LEVELS, "karras"),
        "variable-step PLMS": (PLMS(start="euler", weights="variable_steps"), LEVELS, "karras"),
    },
}
