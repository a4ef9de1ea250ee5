"""Types of every kind that a schema can be made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, Literal, NotRequired, TypedDict

from pydantic import BaseModel, Field


class Mood(Enum):
    GOOD = "good"
    BAD = "bad"


class Size(Enum):
    SMALL = 1
    LARGE = 2


@dataclass
class Pick:
    mood: Mood
    size: Size | None = None


class Place(TypedDict):
    country: str
    region: NotRequired[str]


@dataclass
class Person:
    name: Annotated[str, "First and last."]
    age: int = 0
    friends: list[Person] = field(default_factory=list)


@dataclass(frozen=True)
class City:
    name: str
    population: int | None
    place: Place
    mood: Mood = Mood.GOOD
    twins: tuple[str, ...] = ()
    mayor: Person | None = None
    shape: Literal["round", "long", 3] = "round"


@dataclass
class Even:
    number: int

    def __post_init__(self) -> None:
        if self.number % 2:
            raise ValueError("it is odd")


class Weather(BaseModel):
    city: str
    degrees: float = Field(ge=-90, le=60, description="Celsius.")
    wind: list[Even] = []


@dataclass
class Report:
    weather: Weather
    percent: Annotated[int, Field(ge=0, le=100)] = 50
