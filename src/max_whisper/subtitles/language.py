"""Where a text may be broken: marks, and the small words of some languages.

What a line break should not part follows Netflix's and the BBC's guidelines for subtitles: an article
or adjective and its noun, a preposition and what it governs, a pronoun or auxiliary and its verb, a
first and a last name. Without a grammar, the words before which and after which a break is good or
bad stand for that; other languages have their punctuation and pauses.
"""

from __future__ import annotations

from dataclasses import dataclass

SENTENCE_MARKS = frozenset(".!?…。．！？｡؟।")
CLAUSE_MARKS = frozenset(",;:–—、，；：،؛")
#: What may stand behind such a mark, and what can't begin a line; straight quotes may.
CLOSING = "\"'”’»)]}」』）】"
NEVER_FIRST = CLOSING[2:]
OPENING = "\"'“‘«([{「『（【¿¡"

#: These are written without spaces: a line may end after any word that Whisper has there.
WITHOUT_SPACES = frozenset({"zh", "ja", "yue", "th", "lo", "my"})
#: Their characters are twice as wide.
WIDE = frozenset({"zh", "ja", "yue", "ko"})


@dataclass(frozen=True)
class SmallWords:
    """Words that tell where a clause may be parted, in small letters.

    Attributes:
        conjunctions: A break before them is good.
        prepositions: A break before them is fair; after them, it is bad.
        clinging: A break after them is bad: articles, pronouns, auxiliaries, negations.
        abbreviations: Their full stop ends no sentence.
        capitals: Whether a capital letter inside a sentence tells a name.
    """

    conjunctions: frozenset[str] = frozenset()
    prepositions: frozenset[str] = frozenset()
    clinging: frozenset[str] = frozenset()
    abbreviations: frozenset[str] = frozenset()
    capitals: bool = True


def _words(
    conjunctions: str, prepositions: str, clinging: str, abbreviations: str, capitals: bool = True
) -> SmallWords:
    return SmallWords(
        frozenset(conjunctions.split()),
        frozenset(prepositions.split()),
        frozenset(clinging.split()),
        frozenset(abbreviations.split()),
        capitals,
    )


_ENGLISH = _words(
    "and or but nor so yet because although though while whereas since unless until if when whenever where "
    "wherever how what why that which who whom whose than as after before",
    "of in on at by for with from to into onto upon about above across against along among around behind "
    "below beneath beside besides between beyond despite down during except inside like near off out outside "
    "over past per through throughout toward towards under underneath up via within without",
    "a an the this these those my your his her its our their some any no every each either neither all both "
    "much many few more most such what i you he she it we they there am is are was were be been being have "
    "has had having do does did will would shall should can could may might must not never don't doesn't "
    "didn't won't wouldn't can't couldn't isn't aren't wasn't weren't haven't hasn't hadn't i'm you're he's "
    "she's it's we're they're i've you've we've they've i'll you'll he'll she'll we'll they'll i'd you'd "
    "he'd she'd we'd they'd very too quite rather only just even mr mrs ms dr mister missus",
    "mr mrs ms dr prof st jr sr vs e.g i.e no vol rev gen col lt sgt capt",
)
_GERMAN = _words(
    "und oder aber denn sondern doch weil dass obwohl während wenn als ob bevor nachdem bis damit sodass "
    "falls sobald solange wie wo der die das welcher welche welches",
    "in im an am auf aus bei beim bis durch für gegen hinter mit nach neben ohne seit über um unter von vom "
    "vor während wegen zu zum zur zwischen trotz ins ans",
    "ein eine einen einem einer eines den dem des mein meine meinen dein deine sein seine ihr ihre unser "
    "unsere euer kein keine keinen dieser diese dieses ich du er sie es wir man nicht nie ist sind war waren "
    "bin bist hat haben habe hatte wird werden wurde kann können muss müssen soll sollen will wollen darf "
    "sehr zu nur auch noch herr frau",
    "hr fr dr prof st z.b d.h u.a bzw ca nr usw",
    capitals=False,
)
_FRENCH = _words(
    "et ou mais donc or ni car parce que qu'il qu'elle quand lorsque si comme puisque quoique qui dont où",
    "à de en dans par pour sur avec sans sous vers chez entre contre depuis pendant avant après devant "
    "derrière malgré selon d'un d'une du des au aux",
    "le la les un une mon ma mes ton ta tes son sa ses notre nos votre vos leur leurs ce cet cette ces je tu "
    "il elle on nous vous ils elles se me te y ne n'est n'a pas est sont était suis es sommes êtes ai as a "
    "avons avez ont avait très plus trop bien aussi tout toute tous toutes m mme",
    "m mm mme mlle dr st etc",
)
_SPANISH = _words(
    "y e o u pero sino ni porque que cuando si aunque mientras como donde pues quien cuyo",
    "a al de del en por para con sin sobre entre hacia hasta desde contra según bajo ante tras durante",
    "el la los las un una unos unas mi mis tu tus su sus nuestro nuestra este esta estos estas ese esa yo tú "
    "él ella nosotros ellos ellas usted ustedes me te se lo le les nos no nunca es son era eran fue ser está "
    "están estaba he ha han había hemos muy más tan también",
    "sr sra srta dr dra ud uds etc",
)
_ITALIAN = _words(
    "e ed o ma però né perché che quando se mentre benché come dove quindi cui chi",
    "a al allo alla ai agli alle di del dello della dei degli delle da dal dalla dai in nel nella nei nelle "
    "con su sul sulla per tra fra senza verso dopo prima durante",
    "il lo la i gli le un uno una mio mia tuo tua suo sua nostro nostra vostro loro questo questa quel "
    "quello quella io tu lui lei noi voi mi ti si ci vi ne non mai è sono era erano ho ha hanno aveva "
    "abbiamo essere molto più troppo anche",
    "sig sig.ra dott prof ecc",
)
_PORTUGUESE = _words(
    "e ou mas porém nem porque que quando se embora enquanto como onde pois quem cujo",
    "a ao à aos às de do da dos das em no na nos nas por pelo pela para com sem sobre entre até desde contra",
    "o os as um uma uns umas meu minha seu sua nosso nossa este esta esse essa eu tu ele ela nós eles elas "
    "você vocês me te lhe não nunca é são era eram foi ser está estão tem têm tinha muito mais também",
    "sr sra dr dra etc",
)
_DUTCH = _words(
    "en of maar want dus omdat dat hoewel terwijl als toen wanneer voordat nadat zodat tenzij waar die wie",
    "in op aan bij door voor tegen achter met na naast zonder sinds over om onder van tot tussen uit naar "
    "volgens tijdens",
    "de het een mijn jouw zijn haar ons onze hun geen deze dit ik jij je hij zij ze wij we jullie u niet "
    "nooit is was waren ben bent heeft hebben heb had wordt worden werd kan kunnen moet moeten zal zullen "
    "wil erg heel zeer ook nog",
    "dhr mevr dr prof bijv enz nr",
)

SMALL_WORDS = {
    "en": _ENGLISH,
    "de": _GERMAN,
    "fr": _FRENCH,
    "es": _SPANISH,
    "it": _ITALIAN,
    "pt": _PORTUGUESE,
    "nl": _DUTCH,
}
UNKNOWN = SmallWords(capitals=False)
