"""What a training cost: the machine, its hours, its place and its carbon."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xlm_lightning.model_card.tables import training_seconds
from xlm_lightning.wording import duration


def impact(record: Mapping[str, Any], card: Mapping[str, Any]) -> dict[str, str]:
    """Machine, time, place and carbon; empty for what neither the run nor the author tells."""
    summary = record.get("summary", {})
    energy = summary.get("energy", {})
    place = record.get("config", {}).get("energy", {})
    hardware = record.get("provenance", {}).get("hardware", {})
    whole = energy and energy["tokens"] == summary["tokens_seen"]
    seconds = energy["seconds"] if whole else training_seconds(summary)
    if seconds is None and "hours_used" in card:
        seconds = card["hours_used"] * 3600
    country, region = place.get("country"), place.get("region")
    return {
        "hardware": _machine(hardware, summary, short=True),
        "machine": _machine(hardware, summary, short=False),
        "hours": "" if seconds is None else f"{seconds / 3600:.3g} ({duration(seconds)})",
        "provider": place.get("provider") or "",
        "region": ", ".join(filter(None, [region, country])),
        "carbon": _carbon(energy, summary) if energy else "",
        "carbon_stated": f"{card['kg_co2eq']:.3g} kg CO2eq, as its author states"
        if "kg_co2eq" in card
        else "",
    }


def _machine(hardware: Mapping[str, Any], summary: Mapping[str, Any], *, short: bool) -> str:
    """The processors that computed; `short=False`: with the machine around them."""
    if not hardware:
        return ""
    processes = summary.get("world_size", 1)
    cpu = f"CPU ({hardware['cpu']}, {hardware['cores']} cores)"
    on_gpu = hardware["gpus"] and summary.get("accelerator") != "cpu"
    main = f"{processes} GPU ({hardware['gpus'][0]})" if on_gpu else cpu
    if short:
        return main
    around = f", {cpu}" if on_gpu else ""
    several = f"; {processes} processes" if processes > 1 else "; one process"
    return f"{main}{around}; {hardware['system']}{several}."


def _carbon(energy: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    kinds = ("cpu", "ram", "gpu")
    parts = ", ".join(f"{kind.upper()} {energy[f'{kind}_kwh']:.3g}" for kind in kinds)
    told = (
        f"{energy['kg_co2eq']:.3g} kg CO2eq: {energy['kwh']:.3g} kWh ({parts}), "
        f"{energy['kwh_per_million_tokens']:.3g} kWh per million tokens"
    )
    if energy["tokens"] < summary["tokens_seen"]:
        told += f", for the last {energy['tokens']:,} of {summary['tokens_seen']:,} tokens"
    return told
