"""Energy that this machine uses, as codecarbon measures or estimates it, without a network.

codecarbon counts the whole machine, so one process of a machine has a meter.
"""

from __future__ import annotations

import importlib.metadata
import logging
import os
import time
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from xlm_lightning.errors import RunFailed, UserError

if TYPE_CHECKING:
    from codecarbon import OfflineEmissionsTracker

READ_SECONDS = 15.0  # between two readings: counters of a CPU run over after some minutes
FIGURES = ("kwh", "cpu_kwh", "ram_kwh", "gpu_kwh", "kg_co2eq")
_NEVER = 10.0**9  # seconds: codecarbon's own thread does not read, see EnergyMeter
_UNCERTAINTY = (
    "No interval is known, since nothing was compared with a meter at the socket: the whole "
    "machine is charged to the run, other programs included; losses of the power supply, cooling, "
    "network and the making of the hardware are left out."
)


class _Totals:
    """Keeps what codecarbon hands out; of its `BaseOutput` no other methods are called."""

    def __init__(self) -> None:
        self.latest: Any = None  # its EmissionsData, since the start

    def out(self, total: Any, delta: Any) -> None:
        self.latest = total

    def exit(self) -> None:
        """Nothing to close."""


class EnergyMeter:
    """Counts from `start` on. `read` is called by the thread that trains, at least every
    `READ_SECONDS`: a second thread that reads at the same time would count seconds twice.

    (codecarbon's other thread samples the load once a second, which costs a millisecond.)
    """

    def __init__(self, country: str, gpu_ids: Sequence[str]) -> None:
        """`gpu_ids`: indices or UUIDs of the GPUs that this machine's share of the run uses."""
        self._country = country
        self._gpu_ids = list(gpu_ids)
        self._tracker: OfflineEmissionsTracker | None = None
        self._totals = _Totals()
        self._read_at = 0.0

    @property
    def seconds(self) -> float:
        """Between `start` and the last reading."""
        return float(self._totals.latest.duration)

    def start(self) -> None:
        """Begin to count; `RunFailed` where codecarbon finds nothing to read on this machine."""
        self._tracker = _quiet_codecarbon().OfflineEmissionsTracker(
            country_iso_code=self._country,
            gpu_ids=self._gpu_ids,
            measure_power_secs=_NEVER,
            api_call_interval=-1,
            output_methods=[],  # no file, no network, whatever its own configuration says
            output_handlers=[self._totals],
            emissions_endpoint="",
            electricitymaps_api_token="",
            force_carbon_intensity_g_co2e_kwh=None,
            allow_multiple_runs=True,
            log_level="critical",
        )
        self._tracker.start()
        self._tracker.flush()
        if self._totals.latest is None:  # it swallows its own exceptions
            raise RunFailed("carbon=true: codecarbon can read nothing on this machine")

    def read(self) -> dict[str, float]:
        """Return the `FIGURES` since `start`."""
        if self._tracker is not None:
            self._tracker.flush()
            self._read_at = time.monotonic()
        data = self._totals.latest
        values = (
            data.energy_consumed,
            data.cpu_energy,
            data.ram_energy,
            data.gpu_energy,
            data.emissions,
        )
        return dict(zip(FIGURES, map(float, values), strict=True))

    def read_when_due(self) -> None:
        """Called at every micro-batch; nearly always it only looks at the clock."""
        if time.monotonic() - self._read_at > READ_SECONDS:
            self.read()

    def stop(self) -> None:
        """End codecarbon's threads; what was read stays."""
        if self._tracker is not None:
            self._tracker.stop()
            self._tracker = None

    def described(self) -> dict[str, str]:
        """Return how the figures came about and what they are worth, in sentences."""
        assert self._tracker is not None
        parts = [part.description() for part in self._tracker._hardware]  # told nowhere else
        return {
            "country": self._country,
            "method": f"{_cpu_method(parts)}; RAM: a constant for its size; {self._gpu_method()}. "
            f"Carbon: {country_intensity(self._country)}.",
            "uncertainty": _UNCERTAINTY,
            "codecarbon": importlib.metadata.version("codecarbon"),
        }

    def _gpu_method(self) -> str:
        return "GPU: read from its driver" if self._gpu_ids else "GPU: none was used"


def _cpu_method(parts: Sequence[str]) -> str:
    if "CPU(Cpu Load)" in parts:
        return "CPU: estimated from the load of the machine and the nominal power of such a CPU"
    return "CPU: its own energy counters"


def check_country(country: str) -> None:
    """Raise `UserError` where codecarbon is missing, or knows no electricity of `country`."""
    known = _countries()
    if country in known:
        return
    by_name = {str(row["country_name"]).lower(): code for code, row in known.items()}
    near = by_name.get(country.lower()) or (country.upper() if country.upper() in known else None)
    hint = f" Did you mean {near!r}?" if near else ""
    raise UserError(
        f"energy.country={country}: must be the three letters of a country (ISO 3166), such as "
        f"DEU or USA.{hint}"
    )


def country_intensity(country: str) -> str:
    """Return the carbon of a kWh there, in words."""
    row = _countries()[country]
    return (
        f"{row['carbon_intensity']:.0f} g CO2eq/kWh, the yearly mean of {row['country_name']} "
        f"({row['year']})"
    )


def _countries() -> Mapping[str, Mapping[str, Any]]:
    codecarbon = _quiet_codecarbon()
    countries: Mapping[str, Mapping[str, Any]] = (
        codecarbon.input.DataSource().get_global_energy_mix_data()
    )
    return countries


def _quiet_codecarbon() -> Any:
    """Import it without what it, and the NVML binding below it, print."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            import codecarbon
            import codecarbon.input
    except ModuleNotFoundError as error:
        raise UserError(
            "carbon=true needs codecarbon: pip install 'xlm-lightning[carbon]'"
        ) from error
    logging.getLogger("codecarbon").setLevel(logging.CRITICAL)
    return codecarbon


def visible_gpu_ids(devices: Sequence[int]) -> list[str]:
    """Return the machine's names of the GPUs that this process calls 0, 1, ..."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    names = [name.strip() for name in visible.split(",") if name.strip()]
    return [names[device] if names else str(device) for device in devices]
