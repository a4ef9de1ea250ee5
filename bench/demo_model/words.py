"""Plain English words, names and made-up words for the word skills, and which of them training never sees."""

import random
import zlib

COMMON = """
able about above account across action active actor add address adult advice afraid after again age agree air airport
alarm album alive all almost alone along already also always amber amount anchor angel anger angle animal ankle answer
ant any apple apron arch area arm army around arrow art ask atom aunt autumn away axe baby back bacon bad badge bag bake
baker balance ball balloon banana band bank bar barber barn base basket bat bath battery beach beam bean bear beard
beast beat beauty bed bedroom bee beef beetle before begin bell below belt bench berry best better bicycle big bike bill
bird birth biscuit bite bitter black blade blanket blind block blood blossom blue board boat body boil bold bolt bone
book boot border boring bottle bottom bowl box boy brain branch brave bread break breakfast breath brick bridge bright
bring brother brown brush bubble bucket build bull bus bush busy butter button buy cabin cable cactus cage cake calm
camel camera camp canal candle candy cannon canoe canvas cap captain car card care carpet carrot carry cart castle cat
catch cattle cave ceiling cell center chain chair chalk chance change chapter cheap cheek cheese cherry chess chest
chicken chief child chimney chin chocolate choice church cinema circle circus city clay clean clever cliff climb clock
close cloth cloud clown club coach coal coast coat coconut coffee coin cold collar color comb come comet common compass
computer concert cook cookie cool copper copy coral corn corner cottage cotton couch count country courage cousin cover
cow crab cradle craft crane crayon cream creek crew cricket crocodile crop cross crowd crown crystal cube cucumber cup
cupboard curtain curve custom cycle daily dairy daisy dance danger dark daughter dawn day deal dear decide deep deer
delta dentist desert desk diamond diary dice dinner dirt dish distant doctor dog doll dolphin donkey door double dragon
drama draw dream dress drink drive drop drum dry duck dust eagle ear early earth east easy eat echo edge eel effort egg
elbow elephant elevator empty end enemy energy engine enjoy enter envelope equal evening event every exam example exit
eye face fact factory fair fairy fall family famous fan far farm farmer fast father feather fence fern ferry festival
few field fig fight film final find finger finish fire first fish fist flag flame flash flat flavor flight float flock
floor flour flower flute fly foam fog fold food foot forest fork form fort forward fossil fountain fox frame free fresh
friend frog front frost fruit full fun funny fur future galaxy game garage garden garlic gas gate gather gentle ghost
giant gift ginger giraffe girl give glad glass globe glove glue goal goat gold golden good goose gorilla grain grandma
grape grass gravity gray great green grill ground group grow guard guess guest guide guitar gull habit hair half hall
hammer hamster hand handle happy harbor hard hare harp harvest hat hawk hay hazel head health heart heat heavy hedge
heel helmet help hen herb hero hill hint history hobby hold hole holiday home honest honey hook hope horizon horn horse
hospital hotel hour house human humor hundred hungry hunt hurry hut ice icon idea igloo image inch ink insect iron
island ivory jacket jam jar jaw jazz jeans jelly jewel job joke journey joy judge juice jump jungle junior kangaroo keep
kettle key kick kid kind king kitchen kite kitten knee knife knight knock knot label ladder lady lake lamb lamp land
language lantern large laser last late laugh laundry lava law lawn lazy leader leaf learn leather left leg lemon
leopard lesson letter level library lid lift light lily lime line lion lip list listen little lizard loaf local lock
log lonely long look lotus loud love lucky lunch machine magic magnet mail main make mango map maple marble march mark
market mask master match meadow meal measure meat medal melon member memory message metal meteor middle midnight milk
mill mind mine mint minute mirror mistake mixture mobile model moment monkey monster month moon morning mosquito moss
moth mother motor mountain mouse mouth move movie mud muffin mule muscle museum mushroom music nail name napkin narrow
nation nature navy near neck needle neighbor nephew nerve nest net never new night noble noise noodle noon north nose
note notebook novel number nurse nut oak oasis ocean octopus office oil olive onion open opera orange orbit orchard
order organ ostrich otter oven owl owner oxygen oyster page paint pair palace palm pan panda panther paper parade parent
park parrot part party pasta patch path patient pattern peace peach peacock peanut pear pearl pebble pen pencil penguin
people pepper perfect person phone photo piano picnic picture pie piece pig pigeon pillow pilot pine pink pipe pirate
pizza place plain plan plane planet plant plate play please plenty plum pocket poem point polar police polite pond pony
pool popcorn porch port potato powder power present price prince print prize problem proud puddle pump pumpkin pupil
puppet puppy purple purse puzzle quarter queen question quick quiet quilt rabbit race radio rail rain rainbow ranch
raven reach read ready real reason red reef remind repair reply rescue rest ribbon rice rich ride right ring ripe river
road roast robin robot rock rocket roof room root rope rose rough round route royal ruby rug ruler run saddle safe sail
sailor salad salmon salt sand sandwich saturn sauce save scale scarf school science scissors scooter score scout sea
seal season seat second secret seed sense sentence seven shade shadow shape share shark sharp sheep sheet shelf shell
ship shirt shoe shop short shoulder shovel show shower shy sign signal silent silk silver simple sing sister size skate
skill skin skirt sky sleep sleeve slice slide slow small smart smell smile smoke smooth snack snail snake snow soap
soccer sock sofa soft soil soldier song soup south space spark speak speed spell spice spider spin spoon sport spring
square squirrel stable stage stair stamp star start station statue steam steel stem step stick stone stool store storm
story stove straw stream street string strong student studio sugar summer sun sunset surprise swamp swan sweater sweet
swim swing sword syrup table tail talk tall tape target taste taxi tea teach teacher team tear temple tennis tent test
theater thick thin thing thumb thunder ticket tide tiger tile timber time tiny toad toast today toe tomato tongue tool
tooth top torch tower town toy track tractor trade train travel treasure tree triangle trick trip trophy truck trumpet
trust truth tulip tunnel turkey turtle twig twin uncle under unique unit valley van vanilla vase velvet village vine
violet violin visit voice volcano voyage wagon waiter walk wall walnut walrus warm wash watch water wave wealth weather
wedding week west whale wheat wheel whisper whistle white wild willow wind window wing winner winter wise wish witch
wolf woman wonder wood wool word work world worm wrist write yard year yellow yesterday yogurt young zebra zero zone
"""

NAMES = """
Ada Adam Alan Alba Alex Alice Amy Ana André Anna Anton Arthur Aya Ben Bella Björn Boris Bruno Carl Carla Carmen Chloé
Clara Claire Dan Daniel David Diego Dora Ella Elena Elif Emil Emma Eric Erik Eva Farid Felix Finn Frank Frida Gabriel
George Gina Grace Greta Hana Hannah Hans Harry Hasan Helen Henry Hugo Ida Inés Ingrid Iris Isaac Ivan Jack Jacob James
Jan Jane Jonas José Julia Kai Karl Karen Kate Kenji Kevin Lara Laura Léa Leo Liam Lily Linda Lucas Lucía Luke Luna Maja
Marco Maria Mario Mark Marta Martin Max Maya Mei Mia Michael Mila Mina Nadia Nils Nina Noah Nora Olga Oliver Olivia Omar
Oscar Otto Paul Paula Pedro Peter Petra Pia Rachel Ravi René Rita Robert Rosa Ruth Sam Samira Sara Selma Simon Sofia
Sonia Sophie Stella Sven Tara Theo Thomas Tim Tina Tom Uma Vera Victor Viktor Wanda Will Yuki Yusuf Zara Zoë Zoe
"""

EMOJI = "🍎🍋🚀🌈🔥⭐🐱🐶🦊🌳🎈🎂🍕🐢🦉🌍🌙🌊💡🎵🎸🏆⚽🍀🌸🍄🦋🐝🐙🐬🤖👻🎁📖🔑⏰☕🍩🥕🧀"

_ONSETS = """
b bl br c ch cl cr d dr f fl fr g gl gr h j k l m n p pl pr qu r s sc sh sk sl sm sn sp st str sw t th tr v w y z
"""
_NUCLEI = "a e i o u a e i o u ai ea ee ie oa oo ou ay ow"
_CODAS = "b ck d ft g l ll m mp n nd ng nt p r rd rk rn rt s sh st t th x"


def is_held(kind: str, item: str, percent: int) -> bool:
    """Whether an item belongs to the held-out part of its kind, by a hash that no seed changes."""
    return zlib.crc32(f"{kind}:{item}".encode()) % 100 < percent


def common() -> tuple[str, ...]:
    return tuple(COMMON.split())


def names() -> tuple[str, ...]:
    return tuple(NAMES.split())


def made_up(rng: random.Random) -> str:
    """A pronounceable word that mostly does not exist, of 2 to 12 letters."""
    if rng.random() < 0.3:
        first, second = rng.choice(_COMMON), rng.choice(_COMMON)
        return (first[: rng.randint(1, 5)] + second[-rng.randint(1, 5) :])[:12].ljust(2, "o")
    onsets, nuclei, codas = _ONSETS.split(), _NUCLEI.split(), ["", "", "", *_CODAS.split()]
    syllables = (
        rng.choice(onsets) + rng.choice(nuclei) + rng.choice(codas) for _ in range(rng.randint(1, 3))
    )
    return "".join(syllables)[:12].ljust(2, "o")


_COMMON = common()
