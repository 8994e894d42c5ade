package builtin

// signs are punctuation that some write for letters.
var signs = map[rune]rune{'@': 'a', '$': 's', '!': 'i', '|': 'i', '+': 't', '€': 'e', '£': 'l', '¡': 'i'}

// ligatures are letters that read as several, beyond those that NFKD knows.
var ligatures = map[rune]string{'ß': "ss", 'æ': "ae", 'œ': "oe", 'þ': "th", 'ĳ': "ij", 'ꝏ': "oo", 'ﬀ': "ff"}

// lookalikes are letters that pass for a Latin one, capitals and small ones
// alike, so that a word of the letter's own script folds the same in either case.
// They are a choice of what people use to get past filters from Unicode's
// confusables.txt (UTS 39), plus letters with strokes and small capitals.
var lookalikes = table(
	// Cyrillic
	"АаA ВвB ЕеE ЅѕS ІіI ЇїI ЈјJ КкK МмM НнH ОоO РрP СсC ТтT УуY ҮүY ҰұY ХхX ҺһH ԀԁD ԌԍG ԚԛQ ԜԝW ѴѵV ҒғF ҚқK ҢңH ҤҥH ӐӑA ӒӓA ЁёE ЀѐE",
	// Greek: small nu looks like v, and capital nu like N; a word's n matters more
	"ΑαA ΒβB ΕεE ΖζZ ΗηH ΙιI ΚκK ΜμM ΝνN ΟοO ΡρP ΤτT ΥυY ΧχX ϹϲC ϳϳJ ωωW σσO",
	// Armenian, Cherokee, Coptic
	"ՍսU ՕօO ՏոN ԱաW ցցG հհH յյJ ԶզQ ᎪᎪA ᏴᏴB ᏟᏟC ᎠᎠD ᎬᎬE ᎻᎻH ᎫᎫJ ᏦᏦK ᏞᏞL ᎷᎷM ᏢᏢP ᎡᎡR ᏚᏚS ᎢᎢT ᏙᏙV ᎳᎳW ᏃᏃZ ⲀⲁA ⲤⲥC ⲞⲟO ⲢⲣP",
	// Lisu
	"ꓐꓐB ꓑꓑP ꓓꓓD ꓔꓔT ꓖꓖG ꓗꓗK ꓙꓙJ ꓚꓚC ꓜꓜZ ꓝꓝF ꓟꓟM ꓠꓠN ꓡꓡL ꓢꓢS ꓣꓣR ꓦꓦV ꓧꓧH ꓪꓪW ꓫꓫX ꓬꓬY ꓮꓮA ꓰꓰE ꓲꓲI ꓳꓳO ꓴꓴU",
	// Latin letters that NFKD leaves alone
	"ĐđD ÐðD ƉɖD ĦħH ŁłL ȽƚL ØøO ŦŧT ȾⱦT ɃƀB ƁɓB ƇƈC ȻȼC ƎǝE ƏəE ƐɛE ɆɇE ƑƒF ƓɠG ǤǥG ƗɨI ııI ɪɪI ƖɩI ɈɉJ ƘƙK ƝɲN ȠƞN ƟɵO ƤƥP ɊɋQ ɌɍR ȿȿS ƬƭT ƮʈT ɄʉU ƲʋV ƳƴY ɎɏY ƵƶZ ȤȥZ",
	"ɑɑA ɐɐA ɡɡG ɯɯM ʀʀR ʏʏY ʙʙB ɢɢG ʜʜH ʟʟL ɴɴN ɾɾR ʇʇT ʌʌV ʍʍW ʎʎY ᴀᴀA ᴃᴃB ᴄᴄC ᴅᴅD ᴇᴇE ᴊᴊJ ᴋᴋK ᴌᴌL ᴍᴍM ᴏᴏO ᴘᴘP ᴛᴛT ᴜᴜU ᴠᴠV ᴡᴡW ᴢᴢZ ꜰꜰF ꜱꜱS ꞯꞯQ",
)

// table reads groups of three: a capital, its small letter, and what they pass for.
func table(lines ...string) map[rune]rune {
	t := map[rune]rune{}
	for _, line := range lines {
		var group []rune
		for _, r := range line + " " {
			if r != ' ' {
				group = append(group, r)
				continue
			}
			latin := group[2] + ('a' - 'A')
			t[group[0]], t[group[1]] = latin, latin
			group = group[:0]
		}
	}
	return t
}
