"""The table of facts that the demo model knows: every row must be true, and each key unique in its relation.

Left out on purpose: countries whose capital is disputed, shared between cities, or about to move, countries that
lie in two continents, and anything that could change next year.
"""

from dataclasses import dataclass

CAPITALS = """
Afghanistan=Kabul=Asia|Albania=Tirana=Europe|Algeria=Algiers=Africa|Andorra=Andorra la Vella=Europe
Angola=Luanda=Africa|Antigua and Barbuda=Saint John's=North America|Argentina=Buenos Aires=South America
Armenia=Yerevan=|Australia=Canberra=|Austria=Vienna=Europe|Azerbaijan=Baku=|the Bahamas=Nassau=
Bahrain=Manama=Asia|Bangladesh=Dhaka=Asia|Barbados=Bridgetown=North America|Belarus=Minsk=Europe
Belgium=Brussels=Europe|Belize=Belmopan=North America|Benin=Porto-Novo=Africa|Bhutan=Thimphu=Asia
Bosnia and Herzegovina=Sarajevo=Europe|Botswana=Gaborone=Africa|Brazil=Brasília=South America
Brunei=Bandar Seri Begawan=Asia|Bulgaria=Sofia=Europe|Burkina Faso=Ouagadougou=Africa|Burundi=Gitega=Africa
Cambodia=Phnom Penh=Asia|Cameroon=Yaoundé=Africa|Canada=Ottawa=North America|Cape Verde=Praia=Africa
the Central African Republic=Bangui=Africa|Chad=N'Djamena=Africa|Chile=Santiago=South America
China=Beijing=Asia|Colombia=Bogotá=South America|the Comoros=Moroni=|Costa Rica=San José=North America
Croatia=Zagreb=Europe|Cuba=Havana=North America|Cyprus=Nicosia=|Czechia=Prague=Europe
the Democratic Republic of the Congo=Kinshasa=Africa|Denmark=Copenhagen=Europe|Djibouti=Djibouti=Africa
Dominica=Roseau=North America|the Dominican Republic=Santo Domingo=North America|Ecuador=Quito=South America
Egypt=Cairo=|El Salvador=San Salvador=North America|Eritrea=Asmara=Africa|Estonia=Tallinn=Europe
Ethiopia=Addis Ababa=Africa|Fiji=Suva=Oceania|Finland=Helsinki=Europe|France=Paris=Europe
Gabon=Libreville=Africa|the Gambia=Banjul=Africa|Georgia=Tbilisi=|Germany=Berlin=Europe|Ghana=Accra=Africa
Greece=Athens=Europe|Grenada=Saint George's=North America|Guatemala=Guatemala City=North America
Guinea=Conakry=Africa|Guinea-Bissau=Bissau=Africa|Guyana=Georgetown=South America
Haiti=Port-au-Prince=North America|Honduras=Tegucigalpa=North America|Hungary=Budapest=Europe
Iceland=Reykjavík=Europe|India=New Delhi=Asia|Iran=Tehran=Asia|Iraq=Baghdad=Asia|Ireland=Dublin=Europe
Italy=Rome=Europe|Ivory Coast=Yamoussoukro=Africa|Jamaica=Kingston=North America|Japan=Tokyo=Asia
Jordan=Amman=Asia|Kazakhstan=Astana=|Kenya=Nairobi=Africa|Kiribati=South Tarawa=Oceania
Kuwait=Kuwait City=Asia|Kyrgyzstan=Bishkek=Asia|Laos=Vientiane=Asia|Latvia=Riga=Europe|Lebanon=Beirut=Asia
Lesotho=Maseru=Africa|Liberia=Monrovia=Africa|Libya=Tripoli=Africa|Liechtenstein=Vaduz=Europe
Lithuania=Vilnius=Europe|Luxembourg=Luxembourg=Europe|Madagascar=Antananarivo=Africa|Malawi=Lilongwe=Africa
Malaysia=Kuala Lumpur=Asia|the Maldives=Malé=|Mali=Bamako=Africa|Malta=Valletta=Europe
the Marshall Islands=Majuro=|Mauritania=Nouakchott=Africa|Mauritius=Port Louis=Africa
Mexico=Mexico City=North America|Micronesia=Palikir=Oceania|Moldova=Chișinău=Europe|Monaco=Monaco=Europe
Mongolia=Ulaanbaatar=Asia|Montenegro=Podgorica=Europe|Morocco=Rabat=Africa|Mozambique=Maputo=Africa
Myanmar=Naypyidaw=Asia|Namibia=Windhoek=Africa|Nepal=Kathmandu=Asia|the Netherlands=Amsterdam=Europe
New Zealand=Wellington=Oceania|Nicaragua=Managua=North America|Niger=Niamey=Africa|Nigeria=Abuja=Africa
North Korea=Pyongyang=Asia|North Macedonia=Skopje=Europe|Norway=Oslo=Europe|Oman=Muscat=Asia
Pakistan=Islamabad=Asia|Palau=Ngerulmud=Oceania|Panama=Panama City=North America
Papua New Guinea=Port Moresby=Oceania|Paraguay=Asunción=South America|Peru=Lima=South America
the Philippines=Manila=|Poland=Warsaw=Europe|Portugal=Lisbon=Europe|Qatar=Doha=Asia
the Republic of the Congo=Brazzaville=Africa|Romania=Bucharest=Europe|Russia=Moscow=|Rwanda=Kigali=Africa
Saint Kitts and Nevis=Basseterre=North America|Saint Lucia=Castries=North America
Saint Vincent and the Grenadines=Kingstown=North America|Samoa=Apia=Oceania|San Marino=San Marino=Europe
São Tomé and Príncipe=São Tomé=Africa|Saudi Arabia=Riyadh=Asia|Senegal=Dakar=Africa|Serbia=Belgrade=Europe
Seychelles=Victoria=Africa|Sierra Leone=Freetown=Africa|Singapore=Singapore=Asia|Slovakia=Bratislava=Europe
Slovenia=Ljubljana=Europe|the Solomon Islands=Honiara=|Somalia=Mogadishu=Africa|South Korea=Seoul=Asia
South Sudan=Juba=Africa|Spain=Madrid=Europe|Sudan=Khartoum=Africa|Suriname=Paramaribo=South America
Sweden=Stockholm=Europe|Switzerland=Bern=Europe|Syria=Damascus=Asia|Tajikistan=Dushanbe=Asia
Tanzania=Dodoma=Africa|Thailand=Bangkok=Asia|Timor-Leste=Dili=Asia|Togo=Lomé=Africa
Tonga=Nukuʻalofa=Oceania|Trinidad and Tobago=Port of Spain=|Tunisia=Tunis=Africa|Turkey=Ankara=
Turkmenistan=Ashgabat=Asia|Tuvalu=Funafuti=Oceania|Uganda=Kampala=Africa|Ukraine=Kyiv=Europe
the United Arab Emirates=Abu Dhabi=|the United Kingdom=London=Europe|the United States=Washington, D.C.=North America
Uruguay=Montevideo=South America|Uzbekistan=Tashkent=Asia|Vanuatu=Port Vila=Oceania
Venezuela=Caracas=South America|Vietnam=Hanoi=Asia|Zambia=Lusaka=Africa|Zimbabwe=Harare=Africa
"""

ELEMENTS = """
hydrogen=H helium=He lithium=Li beryllium=Be boron=B carbon=C nitrogen=N oxygen=O fluorine=F neon=Ne sodium=Na
magnesium=Mg aluminum=Al silicon=Si phosphorus=P sulfur=S chlorine=Cl argon=Ar potassium=K calcium=Ca scandium=Sc
titanium=Ti vanadium=V chromium=Cr manganese=Mn iron=Fe cobalt=Co nickel=Ni copper=Cu zinc=Zn gallium=Ga
germanium=Ge arsenic=As selenium=Se bromine=Br krypton=Kr rubidium=Rb strontium=Sr yttrium=Y zirconium=Zr
niobium=Nb molybdenum=Mo technetium=Tc ruthenium=Ru rhodium=Rh palladium=Pd silver=Ag cadmium=Cd indium=In tin=Sn
antimony=Sb tellurium=Te iodine=I xenon=Xe cesium=Cs barium=Ba lanthanum=La cerium=Ce praseodymium=Pr
neodymium=Nd promethium=Pm samarium=Sm europium=Eu gadolinium=Gd terbium=Tb dysprosium=Dy holmium=Ho erbium=Er
thulium=Tm ytterbium=Yb lutetium=Lu hafnium=Hf tantalum=Ta tungsten=W rhenium=Re osmium=Os iridium=Ir platinum=Pt
gold=Au mercury=Hg thallium=Tl lead=Pb bismuth=Bi polonium=Po astatine=At radon=Rn francium=Fr radium=Ra
actinium=Ac thorium=Th protactinium=Pa uranium=U neptunium=Np plutonium=Pu americium=Am curium=Cm berkelium=Bk
californium=Cf einsteinium=Es fermium=Fm mendelevium=Md nobelium=No lawrencium=Lr rutherfordium=Rf dubnium=Db
seaborgium=Sg bohrium=Bh hassium=Hs meitnerium=Mt darmstadtium=Ds roentgenium=Rg copernicium=Cn nihonium=Nh
flerovium=Fl moscovium=Mc livermorium=Lv tennessine=Ts oganesson=Og
"""

# Read in both directions, so no word may stand in two pairs.
ANTONYMS = """
hot=cold big=small tall=short fast=slow old=young good=bad happy=sad light=dark rich=poor strong=weak
early=late open=closed full=empty clean=dirty wet=dry high=low near=far hard=soft loud=quiet thick=thin
wide=narrow deep=shallow right=wrong true=false up=down in=out on=off day=night
black=white yes=no first=last front=back top=bottom inside=outside above=below over=under before=after
always=never everything=nothing more=less many=few win=lose buy=sell give=take come=go push=pull
laugh=cry love=hate start=stop begin=end friend=enemy war=peace life=death north=south east=west
summer=winter brave=cowardly safe=dangerous easy=difficult cheap=expensive sharp=blunt
smooth=rough tight=loose alive=dead asleep=awake polite=rude cruel=kind lazy=hardworking guilty=innocent
public=private question=answer teacher=student arrive=depart remember=forget increase=decrease
accept=refuse arrival=departure entrance=exit maximum=minimum positive=negative sunrise=sunset victory=defeat
visible=invisible possible=impossible legal=illegal sweet=sour forward=backward male=female
"""

COLOURS = """
the sky on a clear day=blue|grass=green|a ripe banana=yellow|snow=white|coal=black|a ripe tomato=red|blood=red
a ripe lemon=yellow|a carrot=orange|milk=white|chocolate=brown|an emerald=green|a ruby=red|a sapphire=blue
a polar bear=white|a flamingo=pink|a raven=black|spinach=green|a pumpkin=orange|an eggplant=purple|broccoli=green
a ripe strawberry=red|a fire truck=red|salt=white|a school bus=yellow|lavender=purple|rice=white|a swan=white
an elephant=gray|a sunflower=yellow|charcoal=black|cucumber skin=green|a brown bear=brown
"""

YOUNG = """
dog=puppy cat=kitten cow=calf sheep=lamb horse=foal pig=piglet goat=kid chicken=chick duck=duckling goose=gosling
lion=cub bear=cub deer=fawn kangaroo=joey frog=tadpole swan=cygnet owl=owlet eagle=eaglet elephant=calf whale=calf
seal=pup wolf=pup fox=cub tiger=cub hare=leveret rabbit=kit giraffe=calf koala=joey
"""

SOUNDS = """
dog=woof cat=meow cow=moo sheep=baa horse=neigh pig=oink duck=quack rooster=cock-a-doodle-doo frog=ribbit
bee=buzz snake=hiss owl=hoot lion=roar donkey=hee-haw turkey=gobble mouse=squeak
"""

LEGS = "spider=8 dog=4 cat=4 horse=4 cow=4 ant=6 bee=6 chicken=2 duck=2 snake=0 butterfly=6 elephant=4 penguin=2 human=2"

SIDES = (
    "triangle=3 square=4 rectangle=4 pentagon=5 hexagon=6 heptagon=7 octagon=8 nonagon=9 decagon=10 rhombus=4"
)

UNITS = """
minutes in an hour=60|seconds in a minute=60|hours in a day=24|days in a week=7|months in a year=12
years in a century=100|years in a decade=10|years in a millennium=1000|centimeters in a meter=100
meters in a kilometer=1000|grams in a kilogram=1000|millimeters in a centimeter=10|inches in a foot=12
feet in a yard=3|letters in the English alphabet=26|strings on a violin=4|cents in a dollar=100
items in a dozen=12|players in a soccer team=11|squares on a chessboard=64|planets in the solar system=8
degrees in a right angle=90|degrees in a circle=360|wheels on a bicycle=2|bits in a byte=8|faces on a cube=6
"""

PLANETS = "Mercury Venus Earth Mars Jupiter Saturn Uranus Neptune"
ORDINALS = "first second third fourth fifth sixth seventh eighth ninth tenth"

CURRENCIES = """
Japan=yen|India=rupee|China=yuan|South Korea=won|Poland=złoty|Sweden=krona|Denmark=krone|Norway=krone
Switzerland=franc|Mexico=peso|Brazil=real|South Africa=rand|Israel=shekel|Thailand=baht|Vietnam=đồng
Turkey=lira|Russia=ruble|the United Kingdom=pound|the United States=dollar|Canada=dollar|Australia=dollar
Germany=euro|France=euro|Spain=euro|Italy=euro|Ireland=euro|Portugal=euro|Hungary=forint|Czechia=koruna
Ukraine=hryvnia|Egypt=pound|Peru=sol|Argentina=peso|Mongolia=tögrög|Nigeria=naira|Bangladesh=taka
"""

# English=French=Spanish=German, each the plain dictionary word.
TRANSLATIONS = """
water=eau=agua=Wasser|fire=feu=fuego=Feuer|house=maison=casa=Haus|dog=chien=perro=Hund|cat=chat=gato=Katze
sun=soleil=sol=Sonne|moon=lune=luna=Mond|book=livre=libro=Buch|bread=pain=pan=Brot|milk=lait=leche=Milch
school=école=escuela=Schule|summer=été=verano=Sommer|winter=hiver=invierno=Winter|tree=arbre=árbol=Baum
flower=fleur=flor=Blume|star=étoile=estrella=Stern|heart=cœur=corazón=Herz|night=nuit=noche=Nacht
day=jour=día=Tag|year=année=año=Jahr|yes=oui=sí=ja|no=non=no=nein|thank you=merci=gracias=danke
green=vert=verde=grün|red=rouge=rojo=rot|apple=pomme=manzana=Apfel|cheese=fromage=queso=Käse
bird=oiseau=pájaro=Vogel|egg=œuf=huevo=Ei|garden=jardin=jardín=Garten|city=ville=ciudad=Stadt
friend=ami=amigo=Freund|mother=mère=madre=Mutter|father=père=padre=Vater|brother=frère=hermano=Bruder
"""

EMOJI = """
dog=🐶|cat=🐱|mouse=🐭|fox=🦊|bear=🐻|panda=🐼|koala=🐨|tiger=🐯|lion=🦁|cow=🐮|pig=🐷|frog=🐸|monkey=🐵|chicken=🐔
penguin=🐧|owl=🦉|bee=🐝|butterfly=🦋|snail=🐌|turtle=🐢|snake=🐍|octopus=🐙|crab=🦀|dolphin=🐬|whale=🐳
apple=🍎|pear=🍐|lemon=🍋|banana=🍌|strawberry=🍓|cherry=🍒|pineapple=🍍|tomato=🍅|carrot=🥕|bread=🍞|cheese=🧀
pizza=🍕|cake=🎂|cookie=🍪|rocket=🚀|bicycle=🚲|train=🚆|airplane=✈|fire=🔥|star=⭐|rainbow=🌈|snowman=⛄|umbrella=☔
heart=❤|key=🔑|bell=🔔|gift=🎁|balloon=🎈|guitar=🎸|book=📖|clock=⏰|robot=🤖|ghost=👻|crown=👑|unicorn=🦄|tree=🌳
"""

MONTH_DAYS = """
January=31 March=31 April=30 May=31 June=30 July=31 August=31 September=30 October=31 November=30 December=31
"""

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
LETTERS = tuple("abcdefghijklmnopqrstuvwxyz")


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """Facts of one kind.

    `rows` are (key, value) pairs, unique by key. In `asked`, `held` (phrasings that training never sees) and
    `answer`, `{x}` stands for the key and `{y}` for the value; `unknown` are keys that the model must refuse.
    """

    name: str
    rows: tuple[tuple[str, str], ...]
    asked: tuple[str, ...]
    held: tuple[str, ...]
    answer: str
    unknown: tuple[str, ...] = ()


def _cells(table: str, separator: str | None) -> list[list[str]]:
    parts = table.split() if separator is None else table.strip().replace("\n", separator).split(separator)
    return [part.strip().split("=") for part in parts if part.strip()]


def _rows(table: str, separator: str | None = None) -> tuple[tuple[str, str], ...]:
    return tuple((key, value) for key, value in _cells(table, separator))


def _swapped(rows: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    return tuple((value, key) for key, value in rows)


def _antonyms() -> tuple[tuple[str, str], ...]:
    pairs = _rows(ANTONYMS)
    return pairs + _swapped(pairs)


def _numbered(names: list[str]) -> tuple[tuple[str, str], ...]:
    return tuple((name, str(number)) for number, name in enumerate(names, start=1))


def article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" and noun != "unicorn" else f"a {noun}"


_COUNTRIES = _cells(CAPITALS, "|")
_CAPITAL = tuple((country, city) for country, city, _ in _COUNTRIES)
_ELEMENT = _rows(ELEMENTS)
_NO_COUNTRY = (
    "Narnia", "Atlantis", "Texas", "Mars", "the Moon", "Wonderland", "Mordor", "Gondor", "Indonesia", "Bolivia",
    "South Africa", "Sri Lanka", "Israel", "Eswatini", "Equatorial Guinea", "California", "Ohio", "Bavaria", "Utopia",
    "Antarctica", "Europe", "Asia", "Scotland", "Lilliput", "Camelot", "Krypton", "Tatooine", "Neverland",
)  # fmt: skip
_NO_WORD = (
    "banana", "table", "window", "seven", "carpet", "spoon", "paper", "guitar", "cloud", "river", "potato", "button",
    "pencil", "engine", "blanket", "mountain", "castle", "penguin", "ticket", "ladder",
)  # fmt: skip
_NO_ELEMENT = (
    "wood",
    "plastic",
    "kryptonite",
    "water",
    "vibranium",
    "steel",
    "air",
    "mithril",
    "brass",
    "glass",
)


def relations() -> tuple[Relation, ...]:
    """All relations, in a fixed order."""
    return (*_geography(), *_chemistry(), *_nature(), *_measures(), *_language(), *_order())


def _geography() -> tuple[Relation, ...]:
    return (
        Relation(
            name="capital",
            rows=_CAPITAL,
            asked=(
                "What is the capital of {x}?", "What's the capital of {x}?", "Capital of {x}?", "capital {x}",
                "What is the capital city of {x}?", "Name the capital of {x}.", "Tell me the capital of {x}.",
                "Which city is the capital of {x}?", "{x}: what is the capital?", "What is {x}'s capital?",
                "The capital of {x} is?", "I want to know the capital of {x}.", "{x} capital?",
            ),
            held=("Do you know the capital of {x}?", "What city is the capital of {x}?", "Give me the capital of {x}."),
            answer="The capital of {x} is {y}.",
            unknown=_NO_COUNTRY,
        ),
        Relation(
            name="capital of",
            rows=_swapped(_CAPITAL),
            asked=(
                "{x} is the capital of which country?", "Which country has the capital {x}?",
                "What is {x} the capital of?", "{x} is the capital of what?", "Of which country is {x} the capital?",
                "Which country's capital is {x}?", "What country has {x} as its capital?",
                "Name the country whose capital is {x}.", "Tell me which country has the capital {x}.",
            ),
            held=("{x} is the capital of what country?", "Which country has {x} as its capital?"),
            answer="{x} is the capital of {y}.",
            unknown=("Gotham", "Springfield", "Metropolis", "Hogwarts", "Milan", "Chicago", "Munich", "Narnia"),
        ),
        Relation(
            name="continent",
            rows=tuple((country, continent) for country, _, continent in _COUNTRIES if continent),
            asked=(
                "Which continent is {x} in?", "What continent is {x} in?", "On which continent is {x}?",
                "In which continent does {x} lie?", "What is the continent of {x}?", "Name the continent of {x}.",
                "Tell me the continent of {x}.", "{x} is in which continent?", "{x}: which continent?",
            ),
            held=("{x} is on what continent?", "Which continent does {x} lie in?"),
            answer="{X} is in {y}.",
            unknown=("Narnia", "Atlantis", "Russia", "Turkey", "Egypt", "Mordor", "Wonderland", "the Moon"),
        ),
        Relation(
            name="currency",
            rows=_rows(CURRENCIES, "|"),
            asked=(
                "What is the currency of {x}?", "Which currency is used in {x}?", "What's the currency of {x}?",
                "What money do people use in {x}?", "Name the currency of {x}.", "Currency of {x}?",
                "Tell me the currency of {x}.", "Which currency does {x} use?", "What currency is used in {x}?",
            ),
            held=("What currency does {x} use?", "Do you know the currency of {x}?"),
            answer="The currency of {x} is the {y}.",
            unknown=("Narnia", "Atlantis", "Mordor", "Wonderland", "Bhutan", "Fiji", "Kenya", "Chile"),
        ),
    )  # fmt: skip


def _chemistry() -> tuple[Relation, ...]:
    return (
        Relation(
            name="symbol",
            rows=_ELEMENT,
            asked=(
                "What is the chemical symbol for {x}?", "What is the symbol for {x}?", "What is the symbol of {x}?",
                "What's the chemical symbol of {x}?", "Chemical symbol for {x}?", "Symbol of {x}?",
                "Give me the chemical symbol for {x}.", "Name the symbol of the element {x}.",
                "Which symbol does {x} have?", "Tell me the symbol for {x}.",
            ),
            held=("Which chemical symbol does {x} have?", "Do you know the chemical symbol for {x}?"),
            answer="The chemical symbol for {x} is {y}.",
            unknown=_NO_ELEMENT,
        ),
        Relation(
            name="element",
            rows=_swapped(_ELEMENT),
            asked=(
                "Which element has the symbol {x}?", "What element has the symbol {x}?", "What element is {x}?",
                "Which element has the chemical symbol {x}?", "{x} is the symbol of which element?",
                "Which element is {x}?", "Name the element with the symbol {x}.",
                "Tell me which element has the symbol {x}.",
            ),
            held=("What element has the chemical symbol {x}?", "{x} is the chemical symbol of which element?"),
            answer="{x} is the chemical symbol for {y}.",
            unknown=("Xx", "Zz", "Qu", "Jj", "Wo", "Ab"),
        ),
        Relation(
            name="atomic number",
            rows=_numbered([name for name, _ in _ELEMENT]),
            asked=(
                "What is the atomic number of {x}?", "What's the atomic number of {x}?", "Atomic number of {x}?",
                "Which atomic number does {x} have?", "Tell me the atomic number of {x}.",
                "Name the atomic number of {x}.", "What atomic number is {x}?", "{x}: atomic number?",
            ),
            held=("What atomic number does {x} have?", "Give me the atomic number of {x}."),
            answer="The atomic number of {x} is {y}.",
            unknown=_NO_ELEMENT,
        ),
    )  # fmt: skip


def _nature() -> tuple[Relation, ...]:
    return (
        Relation(
            name="colour",
            rows=_rows(COLOURS, "|"),
            asked=(
                "What color is {x}?", "What colour is {x}?", "Which color does {x} have?", "The color of {x}?",
                "What is the color of {x}?", "What's the color of {x}?", "Tell me the color of {x}.",
                "Which color is {x}?", "{x}: what color?", "Name the color of {x}.",
            ),
            held=("What color does {x} have?", "What is the colour of {x}?"),
            answer="{X} is {y}.",
            unknown=("a car", "a shirt", "my hat", "the wind", "your favorite dress", "time", "a dream", "my house"),
        ),
        Relation(
            name="young",
            rows=_rows(YOUNG),
            asked=(
                "What is a young {x} called?", "What do you call a young {x}?", "What do you call a baby {x}?",
                "What is the name for a baby {x}?", "A baby {x} is called what?", "A young {x} is called?",
                "Name for a young {x}?", "How do you call a baby {x}?", "Tell me the name of a young {x}.",
            ),
            held=("What is a baby {x} called?", "What is the name for a young {x}?"),
            answer="A young {x} is called {b}.",
            unknown=("table", "dragon", "unicorn", "robot", "snail", "worm"),
        ),
        Relation(
            name="sound",
            rows=_rows(SOUNDS),
            asked=(
                "What does {a} say?", "What sound does {a} make?", "Which sound does {a} make?",
                "What noise does {a} make?", "How does {a} sound?", "Tell me what {a} says.", "The {x} says?",
                "What is the sound of {a}?",
            ),
            held=("Which noise does {a} make?", "What does the {x} say?"),
            answer="{A} says {y}.",
            unknown=("giraffe", "table", "dragon", "rock", "snail", "shark"),
        ),
        Relation(
            name="legs",
            rows=_rows(LEGS),
            asked=(
                "How many legs does {a} have?", "How many legs has {a}?", "Number of legs of {a}?",
                "What is the number of legs of {a}?", "Tell me how many legs {a} has.", "Count the legs of {a}.",
                "{x}: how many legs?",
            ),
            held=("How many legs does one {x} have?", "Do you know how many legs {a} has?"),
            answer="{A} has {y} legs.",
            unknown=("dragon", "robot", "table", "unicorn", "crab", "millipede"),
        ),
        Relation(
            name="emoji",
            rows=_rows(EMOJI, "|"),
            asked=(
                "Show me {a} emoji.", "What is the emoji for {x}?", "Emoji for {x}?", "Give me the {x} emoji.",
                "Show the {x} emoji.", "I need {a} emoji.", "Which emoji is {a}?", "{x} emoji",
                "What does the {x} emoji look like?", "Send me {a} emoji.", "Type the emoji for {x}.",
            ),
            held=("Give me {a} emoji.", "Which emoji stands for {x}?"),
            answer="Here is the {x} emoji: {y}",
            unknown=("spoon", "carpet", "sock", "pencil", "tractor", "zebra", "potato", "violin"),
        ),
    )  # fmt: skip


def _measures() -> tuple[Relation, ...]:
    planets = PLANETS.split()
    ordinals = ORDINALS.split()
    return (
        Relation(
            name="sides",
            rows=_rows(SIDES),
            asked=(
                "How many sides does {a} have?", "How many sides has {a}?", "Number of sides of {a}?",
                "What is the number of sides of {a}?", "Tell me how many sides {a} has.", "{x}: how many sides?",
            ),
            held=("Do you know how many sides {a} has?", "How many sides are there in {a}?"),
            answer="{A} has {y} sides.",
            unknown=("story", "circle", "house", "cloud", "potato"),
        ),
        Relation(
            name="how many",
            rows=_rows(UNITS, "|"),
            asked=(
                "How many {x}?", "How many {x} are there?", "What is the number of {x}?", "Number of {x}?",
                "Tell me the number of {x}.", "Tell me how many {x}.", "Can you say how many {x} there are?",
            ),
            held=("Do you know how many {x}?", "Give me the number of {x}."),
            answer="There are {y} {x}.",
            unknown=(
                "stars in the sky", "fish in the sea", "people in the world", "grains of sand on a beach",
                "hairs on a head", "trees in a forest", "books in a library", "bees in a hive",
            ),
        ),
        Relation(
            name="month days",
            rows=_rows(MONTH_DAYS),
            asked=(
                "How many days does {x} have?", "How many days are in {x}?", "How many days has {x}?",
                "Number of days in {x}?", "Tell me how many days {x} has.", "How long is {x} in days?",
                "What is the number of days in {x}?",
            ),
            held=("How many days are there in {x}?", "Do you know how many days {x} has?"),
            answer="{x} has {y} days.",
        ),
        Relation(
            name="planet",
            rows=tuple((ordinals[index], planet) for index, planet in enumerate(planets)),
            asked=(
                "What is the {x} planet from the sun?", "Which planet is the {x} from the sun?",
                "Name the {x} planet from the sun.", "The {x} planet from the sun?", "Which is the {x} planet?",
                "What's the {x} planet of the solar system?", "Tell me the {x} planet from the sun.",
            ),
            held=("Which planet is {x} from the sun?", "What is the {x} planet of the solar system?"),
            answer="The {x} planet from the sun is {y}.",
            unknown=("ninth", "tenth", "last but one", "hundredth"),
        ),
        Relation(
            name="product",
            rows=tuple((f"{a} {b}", str(a * b)) for a in range(1, 11) for b in range(1, 11)),
            asked=(
                "What is {p} times {q}?", "{p} * {q}", "{p} x {q} = ?", "{p} times {q}", "How much is {p} times {q}?",
                "Multiply {p} by {q}.", "What's {p} * {q}?", "Calculate {p} * {q}.", "{p}*{q}=", "{p} × {q}?",
                "What is {p} multiplied by {q}?", "What do you get if you multiply {p} by {q}?", "Find {p} * {q}.",
                "What is the product of {p} and {q}?", "Can you multiply {p} by {q}?",
            ),
            held=("What do you get when you multiply {p} by {q}?", "Compute {p} * {q}."),
            answer="{p} * {q} = {y}.",
        ),
    )  # fmt: skip


def _language() -> tuple[Relation, ...]:
    words = _cells(TRANSLATIONS, "|")
    foreign = (
        Relation(
            name=language,
            rows=tuple((cells[0], cells[column]) for cells in words),
            asked=(
                f"What is {{x}} in {language}?", f'What is "{{x}}" in {language}?', f"{{x}} in {language}?",
                f"How do you say {{x}} in {language}?", f'How do you say "{{x}}" in {language}?',
                f"Translate {{x}} into {language}.", f'Translate "{{x}}" to {language}.',
                f"What is the {language} word for {{x}}?", f"{language} word for {{x}}?", f"Say {{x}} in {language}.",
                f'Tell me the {language} word for "{{x}}".', f"What does {{x}} mean in {language}?",
                f"How does one say {{x}} in {language}?", f"Can you translate {{x}} into {language}?",
                f"{language} for {{x}}?", f"I need the {language} word for {{x}}.",
            ),
            held=(f"How would you say {{x}} in {language}?", f"Give me the {language} word for {{x}}."),
            answer=f'"{{x}}" in {language} is "{{y}}".',
            unknown=("carpet", "engine", "happiness", "spoon", "I love you", "the weather is nice", "potato", "cloud"),
        )
        for column, language in ((1, "French"), (2, "Spanish"), (3, "German"))
    )  # fmt: skip
    return (
        Relation(
            name="opposite",
            rows=_antonyms(),
            asked=(
                "What is the opposite of {x}?", 'What is the opposite of "{x}"?', "Opposite of {x}?",
                "What's the opposite of {x}?", 'What is the antonym of "{x}"?', "Name the opposite of {x}.",
                "Tell me the opposite of {x}.", "{x} is the opposite of what?", 'The opposite of "{x}" is?',
                "Which word is the opposite of {x}?", "What is the contrary of {x}?",
            ),
            held=("Give me the opposite of {x}.", "Which word means the opposite of {x}?"),
            answer="The opposite of {x} is {y}.",
            unknown=_NO_WORD,
        ),
        *foreign,
    )  # fmt: skip


def _order() -> tuple[Relation, ...]:
    kinds = (("day", DAYS, True), ("month", MONTHS, True), ("letter", LETTERS, False))
    neighbours = []
    for kind, names, is_cycle in kinds:
        pairs = tuple(zip(names, names[1:], strict=False)) + (((names[-1], names[0]),) if is_cycle else ())
        neighbours += [
            Relation(
                name=f"{kind} after",
                rows=pairs,
                asked=(
                    f"What {kind} comes after {{x}}?", f"Which {kind} comes after {{x}}?", f"{kind} after {{x}}?",
                    f"What is the {kind} after {{x}}?", f"Which {kind} follows {{x}}?", "What comes after {x}?",
                    f"Which is the next {kind} after {{x}}?", f"Tell me the {kind} after {{x}}.", "What follows {x}?",
                    f"Which {kind} is after {{x}}?", 'What comes right after "{x}"?',
                ),
                held=(f"What {kind} follows {{x}}?", f"Name the {kind} after {{x}}."),
                answer=f"The {kind} after {{x}} is {{y}}.",
            ),
            Relation(
                name=f"{kind} before",
                rows=_swapped(pairs),
                asked=(
                    f"What {kind} comes before {{x}}?", f"Which {kind} comes before {{x}}?", f"{kind} before {{x}}?",
                    f"What is the {kind} before {{x}}?", f"Which {kind} precedes {{x}}?", "What comes before {x}?",
                    f"Tell me the {kind} before {{x}}.", f"Which {kind} is before {{x}}?",
                    f"Which is the last {kind} before {{x}}?", 'What comes right before "{x}"?',
                ),
                held=(f"What {kind} precedes {{x}}?", f"Name the {kind} before {{x}}."),
                answer=f"The {kind} before {{x}} is {{y}}.",
            ),
        ]  # fmt: skip
    ordinals = (*ORDINALS.split(), "eleventh", "twelfth")
    return (
        *neighbours,
        Relation(
            name="tomorrow",
            rows=tuple((day, DAYS[(index + 1) % 7]) for index, day in enumerate(DAYS)),
            asked=(
                "If today is {x}, what day is tomorrow?", "Today is {x}. What day is tomorrow?",
                "If it is {x} today, which day is tomorrow?", "Today is {x}, so tomorrow is?",
                "What day is tomorrow if today is {x}?",
            ),
            held=("If today is {x}, which day is tomorrow?", "It is {x} today. What day is tomorrow?"),
            answer="If today is {x}, tomorrow is {y}.",
        ),
        Relation(
            name="month number",
            rows=tuple(zip(ordinals, MONTHS, strict=True)),
            asked=(
                "What is the {x} month?", "Which month is the {x}?", "What is the {x} month of the year?",
                "Which is the {x} month of the year?", "The {x} month?", "Tell me the {x} month of the year.",
            ),
            held=("Which month is the {x} of the year?", "Name the {x} month of the year."),
            answer="The {x} month is {y}.",
            unknown=("thirteenth", "twentieth"),
        ),
    )  # fmt: skip
